import { setTimeout as sleep } from 'node:timers/promises';
import { createGates } from '../src/budget/gates.js';
import { openPglite } from '../src/db/pglite.js';
import { openQueue } from '../src/queue/open.js';
import { createModels } from '../src/worker/models.js';
import { startWorker } from '../src/worker/run.js';
import type { Figure } from './support/figures.js';
import type { Bench, Lab } from './support/lab.js';
import { addSource, prepare, tableSql } from './support/source.js';
import { quantile, seededRandom } from './support/stats.js';
import { WorkerProcess } from './support/worker.js';

const EDITS = 500;
const WARM_UP = 20;
const ROWS = 5_000;
const DIMENSIONS = 384;
/** Between two edits, at random up to this, so that the worker has run dry. */
const PAUSE_MS = 300;
const POLL_MS = 1;
const SOURCE = {
  table: 'note',
  content: { columns: ['body'] },
  model: `fake/bench@${DIMENSIONS}`,
  store: 'column',
} as const;

type Ask = (sql: string, params: readonly unknown[]) => Promise<readonly { fresh?: boolean }[]>;

/** From the moment that an edit's commit is acknowledged to the moment that a search would find the new text. */
export const freshness: Bench = async (lab) => {
  const figures = [
    ...percentiles('Redis', await onServer(lab, await lab.redis()), { p50: 20, p99: 75 }),
    ...percentiles('queue in PostgreSQL', await onServer(lab, undefined), {}),
    ...percentiles('embedded', await embedded(lab), { p50: 60 }),
  ];
  lab.setup.push(
    `${EDITS} edits one at a time, up to ${PAUSE_MS} ms apart, in ${ROWS} rows with ${DIMENSIONS} dimensions; asked every ${POLL_MS} ms`,
  );
  return figures;
};

async function onServer(lab: Lab, redisUrl: string | undefined): Promise<number[]> {
  const url = await lab.postgres();
  const db = lab.database(url);
  await prepare(db, redisUrl === undefined ? 'postgres' : 'redis');
  await db.exec(tableSql('note', ROWS));
  await addSource(db, SOURCE);
  const worker = await WorkerProcess.start(lab, { url, mode: 'serve', ...(redisUrl !== undefined && { redisUrl }) });
  const app = await lab.client(url);
  const ask: Ask = async (text, values) => {
    return (await app.query<{ fresh?: boolean }>({ name: text.slice(0, 20), text, values: [...values] })).rows;
  };
  await allFresh(ask);
  await app.query('CREATE INDEX ON note USING hnsw (embedding vector_cosine_ops)');
  const ms = await edits(lab, redisUrl === undefined ? 'queue in PostgreSQL' : 'Redis', ask);
  await worker.stop();
  return ms;
}

async function embedded(lab: Lab): Promise<number[]> {
  const db = await openPglite({});
  lab.later(() => db.close());
  await prepare(db, 'pglite');
  await db.exec(tableSql('note', ROWS));
  await addSource(db, { ...SOURCE, index: 'none' });
  const onError = (error: unknown) => lab.say(`embedded: ${error}`);
  const models = createModels({ requestTimeoutMs: 30_000 });
  const queue = await openQueue({ backend: 'pglite', db }, { onError });
  const gates = createGates(db, {}, onError);
  const worker = await startWorker({
    db,
    queue,
    models,
    gates,
    slots: 1,
    batchKeys: 200,
    graceMs: 2_000,
    onError,
  });
  lab.setup.push('embedded: PGlite in this process, in memory, no index');
  const ask: Ask = (text, values) => db.query<{ fresh?: boolean }>(text, values);
  await allFresh(ask);
  const ms = await edits(lab, 'embedded', ask);
  await worker.stop();
  await gates.close();
  return ms;
}

async function allFresh(ask: Ask): Promise<void> {
  const isFresh = async () => (await ask('SELECT NOT bool_or(embedding_stale) AS fresh FROM note', []))[0]?.fresh;
  while (!(await isFresh())) await sleep(100);
}

async function edits(lab: Lab, what: string, ask: Ask): Promise<number[]> {
  const random = seededRandom(7);
  const ms: number[] = [];
  for (let i = -WARM_UP; i < EDITS; i++) {
    await sleep(random() * PAUSE_MS);
    const id = 1 + Math.floor(random() * ROWS);
    await ask('UPDATE note SET body = $2 WHERE id = $1', [id, `Edit ${i} of note ${id}`]);
    const committed = performance.now();
    while (!(await isSearchable(ask, id))) await sleep(POLL_MS);
    if (i >= 0) ms.push(performance.now() - committed);
    if (i % 100 === 99) lab.say(`${what}: ${i + 1} edits, p50 so far ${quantile(ms, 0.5).toFixed(1)} ms`);
  }
  return ms;
}

/** The vector on the row is that of its present text. */
async function isSearchable(ask: Ask, id: number): Promise<boolean> {
  const sql = 'SELECT NOT embedding_stale AND embedding_hash = md5(body)::uuid AS fresh FROM note WHERE id = $1';
  return (await ask(sql, [id]))[0]?.fresh === true;
}

function percentiles(what: string, ms: number[], bounds: { p50?: number; p99?: number }): Figure[] {
  return (
    [
      ['p50', 0.5],
      ['p99', 0.99],
      ['max', 1],
    ] as const
  ).map(([name, q]): Figure => {
    const atMost = name === 'max' ? undefined : bounds[name];
    return {
      what: `commit to searchable, ${what}, ${name}`,
      value: quantile(ms, q),
      unit: 'ms',
      ...(atMost && { atMost }),
    };
  });
}
