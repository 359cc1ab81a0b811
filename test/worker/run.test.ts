import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createGates } from '../../src/budget/gates.js';
import { EmbedError } from '../../src/embed/port.js';
import { openQueue } from '../../src/queue/open.js';
import type { Queue } from '../../src/queue/port.js';
import type { Models } from '../../src/worker/models.js';
import { startWorker, type Worker } from '../../src/worker/run.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';

let fixture: Fixture;
let spaceId: number;
const started: Worker[] = [];
const reports: number[] = [];
beforeEach(async () => {
  fixture = await openFixture();
  reports.length = 0;
  await fixture.db.exec(
    'CREATE TABLE notes (id int PRIMARY KEY, body text); CREATE TABLE others (LIKE notes INCLUDING ALL)',
  );
  const definition = { content: { columns: ['body'] }, model: 'fake/a@4', index: 'none' } as const;
  spaceId = (await fixture.add({ table: 'notes', ...definition })).space.id;
  await fixture.add({ table: 'others', ...definition });
  await fixture.work();
});
afterEach(async () => {
  for (const worker of started.splice(0)) await worker.stop();
  await fixture.close();
});

const open = () => openQueue({ backend: 'postgres', url: fixture.url }, { onError: () => {} });
const isFresh = async (table: string, body: string) =>
  (await fixture.db.query(`SELECT FROM ${table} WHERE body = $1 AND NOT embedding_stale`, [body])).length > 0;

async function start(queue: Queue, models: Models): Promise<void> {
  const { db } = fixture;
  const worker = await startWorker({
    ...{ db, queue, models, gates: createGates(db, {}, () => {}), slots: 2, batchKeys: 5, graceMs: 5_000 },
    onError: () => {},
    onReport: (id) => reports.push(id),
  });
  started.push(worker);
}

test('a job that somebody else holds and does not do keeps nobody from the space', async () => {
  const stuck = await open();
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let taken = false;
  await stuck.work(
    {
      drain: () => {
        taken = true;
        return held;
      },
    },
    { concurrency: 1 },
  );
  await stuck.wake({ spaceId, slot: 0 });
  await eventually(() => taken, { what: 'the job to be taken' });
  try {
    await start(await open(), fixture.models);
    await fixture.db.query(`INSERT INTO notes VALUES (1, 'hello')`);
    await eventually(() => isFresh('notes', 'hello'), { what: 'the vector', timeoutMs: 40_000 });
  } finally {
    release();
    await stuck.close();
  }
});

test('a space that rests is not drained over and over for the vectors that wait for their rows', async () => {
  const outage = new EmbedError('unavailable', 'HTTP 503', { retryAfterMs: 600_000 });
  const models: Models = {
    ...fixture.models,
    async forSpace(space) {
      const model = await fixture.models.forSpace(space);
      return {
        ...model,
        embed: (texts, options) =>
          texts.some((text) => text.includes('outage')) ? Promise.reject(outage) : model.embed(texts, options),
      };
    },
  };
  await fixture.db.query(`INSERT INTO notes VALUES (1, 'held')`);
  const app = new pg.Client({ connectionString: fixture.url });
  await app.connect();
  try {
    await app.query('BEGIN; SELECT FROM notes WHERE id = 1 FOR UPDATE');
    await start(await open(), models);
    const leased = async (key: string, token: boolean) =>
      (await fixture.db.query('SELECT FROM freshvec.lease WHERE key = $1 AND (token IS NOT NULL) = $2', [key, token]))
        .length > 0;
    await eventually(() => leased('1', true), { what: 'the vector that waits for its row' });
    await fixture.db.query(`INSERT INTO notes VALUES (2, 'outage')`);
    await eventually(() => leased('2', false), { what: 'the pause', timeoutMs: 20_000 });
    // What is under way ends; from then on only the other space is drained.
    const lookAtOthers = async (i: number) => {
      await fixture.db.query('INSERT INTO others VALUES ($1, $2)', [i, `other ${i}`]);
      await eventually(() => isFresh('others', `other ${i}`), { what: 'the other space', timeoutMs: 20_000 });
    };
    await lookAtOthers(0);
    const before = reports.filter((id) => id === spaceId).length;
    for (let i = 1; i <= 8; i++) await lookAtOthers(i);
    expect(reports.filter((id) => id === spaceId).length - before).toBeLessThanOrEqual(2);
    expect(await leased('1', true)).toBe(true);
  } finally {
    await app.query('ROLLBACK');
    await app.end();
  }
});

test('vectors that wait for their rows are written by the process that has them, whoever is woken', async () => {
  const queue = await open();
  let woken = 0;
  // The first wake-up comes here; the others go to another process.
  const shared = instead(queue, { wake: async (job) => (woken++ === 0 ? queue.wake(job) : true) });
  const app = new pg.Client({ connectionString: fixture.url });
  await app.connect();
  try {
    await app.query(`INSERT INTO notes VALUES (1, 'first')`);
    await app.query('BEGIN; SELECT FROM notes WHERE id = 1 FOR UPDATE');
    await start(shared, fixture.models);
    // The drain gives its slot up meanwhile.
    await eventually(() => reports.includes(spaceId), { what: 'the end of the first drain', timeoutMs: 20_000 });
    await app.query('COMMIT');
    await eventually(() => isFresh('notes', 'first'), { what: 'the vector' });
  } finally {
    await app.end();
  }
});
