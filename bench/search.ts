import { openModel } from '../src/embed/open.js';
import { createPointerCache } from '../src/search/pointer-cache.js';
import type { EmbedQuery } from '../src/search/query-vectors.js';
import { search as guardedSearch } from '../src/search/search.js';
import type { Bench } from './support/lab.js';
import { addSource, prepare, tableSql } from './support/source.js';
import { median, timed } from './support/stats.js';
import { WorkerProcess } from './support/worker.js';

const ROWS = 20_000;
const DIMENSIONS = 384;
const MODEL = `fake/bench@${DIMENSIONS}`;
const QUERIES = 500;
const K = 10;

/** The guarded search beside the statement that a person would write by hand, on one connection each. No bound. */
export const search: Bench = async (lab) => {
  const url = await lab.postgres();
  const [db, client] = [lab.database(url, 1), await lab.client(url)];
  await prepare(db);
  await db.exec(tableSql('note', ROWS));
  await addSource(db, { table: 'note', content: { columns: ['body'] }, model: MODEL, store: 'column' });
  const worker = await WorkerProcess.start(lab, { url, mode: 'drain' });
  await worker.drain();
  await worker.stop();
  lab.say('building the HNSW index');
  await client.query('CREATE INDEX ON note USING hnsw (embedding vector_cosine_ops); ANALYZE note');
  await client.query('SET hnsw.ef_search = 80');

  const model = await openModel(MODEL, { requestTimeoutMs: 30_000 });
  const embedQuery: EmbedQuery = () => Promise.reject(new Error('the vector is given'));
  const deps = { db, embedQuery, pointers: createPointerCache() };
  const [bare, guarded]: [number[], number[]] = [[], []];
  for (let i = 0; i < QUERIES; i++) {
    const { vectors } = await model.embed([`question ${i}`], { purpose: 'query' });
    const [vector = new Float32Array(DIMENSIONS)] = vectors;
    const sql = `SELECT id, body, n, embedding <=> $1 AS distance FROM note ORDER BY embedding <=> $1 LIMIT ${K}`;
    bare.push(await timed(() => client.query(sql, [JSON.stringify(Array.from(vector))])));
    guarded.push(await timed(() => guardedSearch(deps, 'note', { vector, k: K })));
  }
  lab.setup.push(`${QUERIES} queries, k = ${K}, ef_search 80, ${ROWS} rows with ${DIMENSIONS} dimensions, HNSW index`);
  return [
    { what: 'bare ORDER BY … LIMIT, p50', value: median(bare), unit: 'ms' },
    { what: 'guarded search, p50', value: median(guarded), unit: 'ms' },
    { what: 'guarded / bare', value: median(guarded) / median(bare), unit: '×' },
  ];
};
