import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import { createGates } from '../src/budget/gates.js';
import type { Database } from '../src/db/database.js';
import { openQueue } from '../src/queue/open.js';
import { createModels, type Models } from '../src/worker/models.js';
import { startWorker } from '../src/worker/run.js';
import { APP } from './support/app.js';
import type { Figure } from './support/figures.js';
import type { Bench, Lab } from './support/lab.js';
import { addSource, prepare, tableSql } from './support/source.js';
import { quantile, seededRandom } from './support/stats.js';
import { watchLocks } from './support/watch.js';
import { WorkerProcess } from './support/worker.js';

const ROWS = 20_000;
const DIMENSIONS = 384;
const MODEL = `fake/bench@${DIMENSIONS}`;
const EDITS_PER_SECOND = 100;
const CONNECTIONS = 8;
const SECONDS = 40;
const ALONE_SECONDS = 10;
const HELD_MS = 10_000;
/** Between two looks at the locks. */
const LOOK_MS = 5;

/** What the app feels of a worker that writes all the time, and what a row costs that the app holds. */
export const appWait: Bench = async (lab) => {
  const url = await lab.postgres();
  const [db, client] = [lab.database(url), await lab.client(url)];
  await prepare(db);
  await db.exec(tableSql('note', ROWS));
  await addSource(db, { table: 'note', content: { columns: ['body'] }, model: MODEL, store: 'column' });
  const loader = await WorkerProcess.start(lab, { url, mode: 'drain' });
  await loader.drain();
  await loader.stop();
  lab.say('building the HNSW index');
  await client.query('CREATE INDEX ON note USING hnsw (embedding vector_cosine_ops)');
  await client.query('VACUUM ANALYZE note');
  const app = await Promise.all(Array.from({ length: CONNECTIONS }, () => lab.client(url, APP)));

  lab.say('the app alone');
  const alone = await edit(app, ALONE_SECONDS);
  lab.say('the app beside the worker');
  const worker = await WorkerProcess.start(lab, { url, mode: 'serve' });
  await client.query(`UPDATE note SET body = body || ' again'`);
  const before = await freshRows(client);
  const locks = watchLocks(await lab.client(url), { of: APP, lookMs: LOOK_MS });
  const beside = await edit(app, SECONDS);
  const longestLock = await locks.stop();
  const written = ((await freshRows(client)) - before) / SECONDS;
  await worker.stop();
  const { rows } = await client.query<{ deadlocks: string }>(
    'SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()',
  );
  lab.setup.push(
    `${EDITS_PER_SECOND} edits/s over ${CONNECTIONS} connections for ${SECONDS} s, of random rows out of ${ROWS} with ${DIMENSIONS} dimensions, all stale at first`,
  );
  return [
    { what: 'p99 of an app statement, app alone', value: quantile(alone.ms, 0.99), unit: 'ms' },
    { what: 'longest app statement, app alone', value: Math.max(...alone.ms), unit: 'ms' },
    { what: 'p99 of an app statement beside the worker', value: quantile(beside.ms, 0.99), unit: 'ms' },
    { what: 'longest app statement beside the worker', value: Math.max(...beside.ms), unit: 'ms', atMost: 100 },
    {
      what: `longest wait of the app for a lock, as sampled (${longestLock.why})`,
      value: longestLock.ms,
      unit: 'ms',
      atMost: 100,
    },
    { what: 'app statements', value: beside.ms.length, unit: '' },
    { what: 'failed app statements', value: beside.failed, unit: '', atMost: 0 },
    { what: 'deadlocks', value: Number(rows[0]?.deadlocks), unit: '', atMost: 0 },
    { what: 'rows made fresh meanwhile, net of edits', value: written, unit: '/s' },
    await paidCallsOfHeldRow(lab, db, client, url),
  ];
};

/** Edits random rows at a fixed rate for a while; a statement's time counts from when it is sent. */
async function edit(app: readonly Client[], seconds: number): Promise<{ ms: number[]; failed: number }> {
  const random = seededRandom(11);
  const ms: number[] = [];
  const idle = [...app];
  const running = new Set<Promise<void>>();
  let failed = 0;
  const one = async (client: Client) => {
    const id = 1 + Math.floor(random() * ROWS);
    const sent = performance.now();
    const text = 'UPDATE note SET body = $2 WHERE id = $1';
    await client.query({ name: 'edit', text, values: [id, `Edit of ${id}: ${random()}`] }).catch(() => (failed += 1));
    ms.push(performance.now() - sent);
    idle.push(client);
  };
  const began = performance.now();
  for (let due = 0; due < seconds * 1000; due += 1000 / EDITS_PER_SECOND) {
    await sleep(Math.max(0, began + due - performance.now()));
    while (idle.length === 0) await Promise.race(running);
    const client = idle.shift();
    if (!client) continue;
    const run = one(client).finally(() => running.delete(run));
    running.add(run);
  }
  await Promise.all(running);
  return { ms, failed };
}

async function freshRows(client: Client): Promise<number> {
  const { rows } = await client.query<{ n: string }>('SELECT count(*) AS n FROM note WHERE NOT embedding_stale');
  return Number(rows[0]?.n);
}

/** The app edits a row and, while the model works on it, takes it for ten seconds. */
async function paidCallsOfHeldRow(lab: Lab, db: Database, client: Client, url: string): Promise<Figure> {
  lab.say('a row that the app holds');
  await client.query('TRUNCATE freshvec.change, freshvec.change_pack, freshvec.lease');
  await db.exec(tableSql('held', 10));
  await addSource(db, { table: 'held', content: { columns: ['body'] }, model: MODEL, index: 'none', store: 'column' });
  const counted = countingModels(300);
  const onError = (error: unknown) => lab.say(`worker: ${error}`);
  const queue = await openQueue({ backend: 'postgres', url }, { onError });
  const worker = await startWorker({
    db,
    queue,
    models: counted.models,
    gates: createGates(db, {}, onError),
    slots: 3,
    batchKeys: 200,
    graceMs: 2_000,
    onError,
  });
  const stale = async () => (await client.query('SELECT 1 FROM held WHERE embedding_stale')).rows.length;
  while ((await stale()) > 0) await sleep(50);
  counted.texts.length = 0;

  const body = 'the text of the row that is held';
  await client.query('UPDATE held SET body = $1 WHERE id = 1', [body]);
  while (!counted.texts.includes(body)) await sleep(1);
  await client.query('BEGIN; SELECT 1 FROM held WHERE id = 1 FOR UPDATE');
  await sleep(HELD_MS);
  await client.query('COMMIT');
  while ((await stale()) > 0) await sleep(50);
  await worker.stop();
  const paid = counted.texts.filter((text) => text === body).length;
  return { what: `paid calls for a row that the app holds for ${HELD_MS / 1000} s`, value: paid, unit: '', atMost: 1 };
}

/** The fake model, which remembers every text that it was paid for. */
function countingModels(latencyMs: number): { models: Models; texts: string[] } {
  const inner = createModels({ requestTimeoutMs: 30_000, fake: { latencyMs } });
  const texts: string[] = [];
  const models: Models = {
    ...inner,
    async forSpace(space) {
      const model = await inner.forSpace(space);
      return {
        ...model,
        countTokens: (text) => model.countTokens(text),
        close: () => model.close(),
        embed(wanted, options) {
          texts.push(...wanted);
          return model.embed(wanted, options);
        },
      };
    },
  };
  return { models, texts };
}
