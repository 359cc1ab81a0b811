import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { findSource } from '../../src/catalog/source.js';
import type { Database } from '../../src/db/database.js';
import { applySource, planSource, removeSource } from '../../src/source/index.js';
import { addSource, MODEL, openServer, type Subject } from '../capture/support.js';
import { eventually } from '../support/eventually.js';

/** A source is added and removed while the app uses the table. */
describe('locks', () => {
  let subject: Subject;
  let db: Database;
  let app: pg.Client;
  beforeAll(async () => {
    subject = await openServer();
    db = subject.db;
  });
  afterAll(() => subject.close());
  beforeEach(async () => {
    await db.query('CREATE TABLE memory (id int PRIMARY KEY, title text)');
    await db.query(`INSERT INTO memory SELECT i, 'x' FROM generate_series(1, 10) i`);
    app = new pg.Client({ connectionString: subject.url, application_name: 'the-app' });
    await app.connect();
  });
  afterEach(async () => {
    await app.end();
    if (await findSource(db, 'memory')) await removeSource(db, 'memory', { dropVectors: true });
    await db.query('DROP TABLE memory');
  });

  const plan = () => planSource(db, { table: 'memory', content: { columns: ['title'] }, model: MODEL.spec }, MODEL);

  test('an open transaction is waited out with tries, not with a lock in the queue', async () => {
    await app.query('BEGIN');
    await app.query('SELECT * FROM memory');
    const other = new pg.Client({ connectionString: subject.url });
    await other.connect();
    const reasons: string[] = [];
    const added = applySource(db, await plan(), {
      onRetry: (attempt, reason) => reasons.push(`${attempt}: ${reason}`),
    });
    try {
      // Meanwhile others read and write as ever.
      let worst = 0;
      let done = false;
      const others = (async () => {
        while (!done) {
          const start = performance.now();
          await other.query(`UPDATE memory SET title = 'y' WHERE id = 1`);
          await other.query('SELECT * FROM memory');
          worst = Math.max(worst, performance.now() - start);
          await sleep(1);
        }
      })();
      await eventually(() => reasons.length >= 4);
      done = true;
      await others;
      expect(worst).toBeLessThan(1000);
      expect(await findSource(db, 'memory')).toBeUndefined();
    } finally {
      await app.query('COMMIT');
      await other.end();
    }
    await added;
    expect(reasons[0]).toMatch(
      /^1: "public"\."memory" is in use by pid \d+ \(the-app, idle in transaction, AccessShareLock\)/,
    );
    expect(await findSource(db, 'memory')).toBeDefined();
  });

  test('it gives up with the name of who is in the way, and nothing changed', async () => {
    const planned = await plan();
    await app.query('BEGIN');
    await app.query(`UPDATE memory SET title = 'secret text' WHERE id = 1`);
    const { rows } = await app.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const failed = await applySource(db, planned, { giveUpMs: 300 }).catch((error: unknown) => error);
    expect(failed).toMatchObject({
      code: 'lock_not_available',
      message: expect.stringContaining(`pid ${rows[0]?.pid} (the-app, idle in transaction`),
    });
    expect(String(failed)).not.toContain('secret');
    await app.query('ROLLBACK');
    expect(await findSource(db, 'memory')).toBeUndefined();
    const [column] = await db.query(
      `SELECT 1 FROM pg_attribute WHERE attrelid = 'memory'::regclass AND attname = 'embedding'`,
    );
    expect(column).toBeUndefined();
  });

  test('two at once: one adds it, the other learns so', async () => {
    const plans = await Promise.all([plan(), plan()]);
    const results = await Promise.allSettled(plans.map((planned) => applySource(db, planned)));
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const rejected = results.find((result) => result.status === 'rejected');
    expect(rejected?.reason).toMatchObject({ code: 'source_exists' });
    expect(await plan()).toMatchObject({ already: true });
  });

  test('a table of its own is added beside readers', async () => {
    await app.query('BEGIN');
    await app.query('SELECT * FROM memory');
    await addSource(db, { table: 'memory', content: { columns: ['title'] }, store: 'table' });
    await app.query('COMMIT');
  });
});
