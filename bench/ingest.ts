import type { Client } from 'pg';
import type { Database } from '../src/db/database.js';
import { openModel } from '../src/embed/open.js';
import { binaryCopy, copyInto } from './support/copy.js';
import type { Figure } from './support/figures.js';
import type { Bench, Lab } from './support/lab.js';
import { addSource, prepare, tableSql, textsSql } from './support/source.js';
import { median, timed } from './support/stats.js';
import { WorkerProcess } from './support/worker.js';

export const ROWS = 20_000;
const DIMENSIONS = 1536;
export const MODEL = `fake/bench@${DIMENSIONS}`;
const REPETITIONS = 3;
const TEXT_BATCH = 500;

/**
 * Rows to vectors with an embedder that answers at once: a first load of a table, and rows that arrive by INSERT.
 * COPY and the text batches write the same vectors, made beforehand; COPY's bytes are made beforehand too.
 */
export const ingest: Bench = async (lab) => {
  const url = await lab.postgres();
  const [db, client] = [lab.database(url), await lab.client(url)];
  await prepare(db);
  const vectors = await makeVectors(client);
  const stream = binaryCopy(vectors);
  const worker = await WorkerProcess.start(lab, { url, mode: 'drain' });
  const ms = { copy: [] as number[], load: [] as number[], changes: [] as number[], text: [] as number[] };
  await firstLoad(db, worker, { table: 'warm_up', rows: ROWS, model: MODEL });
  for (let i = 1; i <= REPETITIONS; i++) {
    ms.copy.push(await copy(client, `copy_${i}`, stream));
    ms.load.push(await firstLoad(db, worker, { table: `load_${i}`, rows: ROWS, model: MODEL }));
    ms.changes.push(await changes(db, worker, `changes_${i}`));
    ms.text.push(await textBatches(client, `text_${i}`, vectors));
    const said = Object.entries(ms).map(([name, all]) => `${name} ${all.at(-1)?.toFixed(0)} ms`);
    lab.say(`${i} of ${REPETITIONS}: ${said.join(', ')}`);
  }
  return figures(lab, ms, await worker.stop());
};

function figures(lab: Lab, ms: Record<'copy' | 'load' | 'changes' | 'text', number[]>, peakMb: number): Figure[] {
  const rate = (all: number[]) => (ROWS / median(all)) * 1000;
  lab.setup.push(`${ROWS} texts of ~90 characters, ${DIMENSIONS} dimensions, no index, median of ${REPETITIONS}`);
  return [
    { what: 'binary COPY of the vectors into a bare table', value: rate(ms.copy), unit: '/s' },
    { what: 'first load, from claim to settled', value: rate(ms.load), unit: '/s' },
    { what: 'inserted rows, from claim to settled', value: rate(ms.changes), unit: '/s' },
    { what: `UPDATE in batches of ${TEXT_BATCH} vectors as text`, value: rate(ms.text), unit: '/s' },
    { what: 'first load / binary COPY', value: median(ms.copy) / median(ms.load), unit: '×', atLeast: 0.25 },
    { what: 'inserted rows / binary COPY', value: median(ms.copy) / median(ms.changes), unit: '×', atLeast: 0.25 },
    { what: 'first load / text batches', value: median(ms.text) / median(ms.load), unit: '×', atLeast: 4 },
    { what: 'inserted rows / text batches', value: median(ms.text) / median(ms.changes), unit: '×', atLeast: 4 },
    { what: "the worker's memory at its peak", value: peakMb, unit: 'MB', atMost: 300 },
  ];
}

async function makeVectors(client: Client): Promise<Float32Array[]> {
  const model = await openModel(MODEL, { requestTimeoutMs: 30_000 });
  const { rows } = await client.query<{ body: string }>(
    `SELECT body FROM (${textsSql(1, ROWS)}) t(id, body) ORDER BY id`,
  );
  const vectors: Float32Array[] = [];
  for (let at = 0; at < rows.length; at += 1000) {
    const texts = rows.slice(at, at + 1000).map(({ body }) => body);
    vectors.push(...(await model.embed(texts, { purpose: 'document' })).vectors);
  }
  return vectors;
}

async function copy(client: Client, table: string, stream: readonly Buffer[]): Promise<number> {
  await client.query(`CREATE TABLE ${table} (id bigint, embedding vector(${DIMENSIONS})); CHECKPOINT`);
  return timed(() => copyInto(client, table, stream));
}

export interface FirstLoad {
  readonly table: string;
  readonly rows: number;
  readonly model: string;
}

/** The rows are there before the source is. Resolves to the ms from the first claim to the last settled row. */
export async function firstLoad(
  db: Database,
  worker: WorkerProcess,
  { table, rows, model }: FirstLoad,
): Promise<number> {
  await db.exec(tableSql(table, rows));
  await db.exec(`VACUUM ANALYZE ${table}`);
  await addSource(db, { table, content: { columns: ['body'] }, model, index: 'none', store: 'column' });
  return drained(db, worker, rows);
}

/** The source is there before the rows are. */
async function changes(db: Database, worker: WorkerProcess, table: string): Promise<number> {
  await db.exec(tableSql(table, 0));
  await addSource(db, { table, content: { columns: ['body'] }, model: MODEL, index: 'none', store: 'column' });
  await db.exec(`INSERT INTO ${table} (id, body) ${textsSql(1, ROWS)}`);
  await db.exec(`VACUUM ANALYZE ${table}`);
  return drained(db, worker, ROWS);
}

async function drained(db: Database, worker: WorkerProcess, rows: number): Promise<number> {
  await db.exec('CHECKPOINT');
  const { report, ms } = await worker.drain();
  if (report.written !== rows) throw new Error(`${report.written} of ${rows} rows were written`);
  return ms;
}

/** What most systems do: vectors as text, one UPDATE of 500 rows at a time. */
async function textBatches(client: Client, table: string, vectors: readonly Float32Array[]): Promise<number> {
  await client.query(tableSql(table, ROWS));
  await client.query(`ALTER TABLE ${table} ADD COLUMN embedding vector(${DIMENSIONS})`);
  await client.query(`VACUUM ANALYZE ${table}`);
  await client.query('CHECKPOINT');
  return timed(async () => {
    for (let at = 0; at < vectors.length; at += TEXT_BATCH) {
      const batch = vectors.slice(at, at + TEXT_BATCH);
      await client.query(
        `UPDATE ${table} t SET embedding = v.embedding::vector
         FROM unnest($1::bigint[], $2::text[]) AS v(id, embedding) WHERE t.id = v.id`,
        [batch.map((_, i) => at + i + 1), batch.map((vector) => JSON.stringify(Array.from(vector)))],
      );
    }
  });
}
