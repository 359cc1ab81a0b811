import pg from 'pg';
import { afterAll, beforeAll, describe, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { startWorker } from './long-worker.js';
import { expectFresh, expectNothingLeft, type Held, MODEL, STORES } from './rows.js';

const LATE = 6;
const ROUNDS = 3;

describe('fault 24: a transaction commits late, below everything already seen [C]', () => {
  let fixture: Fixture;
  const late: pg.Client[] = [];
  beforeAll(async () => {
    fixture = await openFixture();
    for (let i = 0; i < LATE; i++) {
      const client = new pg.Client({ connectionString: fixture.url });
      await client.connect();
      late.push(client);
    }
  });
  afterAll(async () => {
    await Promise.all(late.map((client) => client.end()));
    await fixture.close();
  });

  test.for(STORES)('store %s', async (store, { task }) => {
    task.meta.tries = ROUNDS * LATE;
    const { db } = fixture;
    const table = `note_${store}`;
    await db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text);
      INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, 30) i`);
    const held = await fixture.add({ table, content: { columns: ['body'] }, model: MODEL, store });
    const worker = startWorker(fixture.url);
    try {
      for (let round = 0; round < ROUNDS; round++) {
        await quiet(held);
        for (const [i, client] of late.entries()) {
          await client.query('BEGIN');
          await client.query(lateWrite(table, i, round));
        }
        // Others overtake: their changes have higher ids and are worked off, while the workers' hints move on.
        for (let i = 0; i < 5; i++) {
          await db.exec(`UPDATE ${table} SET body = 'overtaken ${round} ${i} by ' || id WHERE id > 20`);
          await eventually(() => expectNothingLeft(db, held.space).then(() => true), { what: 'quiet' });
        }
        for (const client of late) await client.query('COMMIT');
        await quiet(held);
      }
    } finally {
      await worker.stop();
    }
  });

  function quiet(held: Held): Promise<unknown> {
    const fresh = () => expectFresh(fixture, held, { text: 'body' }).then(() => true);
    return eventually(fresh, { timeoutMs: 15_000, intervalMs: 50, what: 'every row fresh' });
  }
});

function lateWrite(table: string, i: number, round: number): string {
  const own = 1 + i * 3;
  return [
    `UPDATE ${table} SET body = 'late ${round}' WHERE id = ${own}`,
    `INSERT INTO ${table} VALUES (${1000 + round * LATE + i}, 'late birth')`,
    `DELETE FROM ${table} WHERE id = ${own + (round % 3)}`,
  ][i % 3] as string;
}
