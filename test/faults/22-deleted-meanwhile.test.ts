import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Fixture, openFixture } from '../support/fixture.js';
import { expectFresh, type Held, MODEL, STORES, whileEmbedding, workWith } from './rows.js';

const ROWS = 30;
const ROUNDS = 8;
const EXPECTED = { text: 'body' };

/** What becomes of a row whose text is at the provider. Run in turn, one for each row and round. */
const DELETES: readonly ((table: string, id: number) => string)[] = [
  (table, id) => `DELETE FROM ${table} WHERE id = ${id}`,
  (table, id) => `DELETE FROM ${table} WHERE id = ${id}; INSERT INTO ${table} VALUES (${id}, 'born again')`,
  (table, id) => `WITH gone AS (DELETE FROM ${table} WHERE id = ${id} RETURNING *)
    INSERT INTO ${table} SELECT id + 1000000, body FROM gone`,
  (table, id) => `BEGIN; DELETE FROM ${table} WHERE id = ${id}; ROLLBACK`,
  (table, id) => `UPDATE ${table} SET body = '' WHERE id = ${id}; DELETE FROM ${table} WHERE id = ${id}`,
  () => 'SELECT 1',
];

describe('fault 22: row deleted during the provider call [C, no resurrection]', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
  });
  afterAll(() => fixture.close());

  async function setUp(table: string, store: 'column' | 'table'): Promise<Held> {
    await fixture.db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text)`);
    return fixture.add({ table, content: { columns: ['body'] }, model: MODEL, store });
  }

  async function fill(table: string, round: number): Promise<void> {
    await fixture.db.exec(`DELETE FROM ${table};
      INSERT INTO ${table} SELECT i, 'round ${round} of ' || i FROM generate_series(1, ${ROWS}) i`);
  }

  test.for(STORES)('deleted, moved, deleted and inserted again: store %s', async (store, { task }) => {
    task.meta.tries = ROUNDS * ROWS;
    const table = `note_${store}`;
    const held = await setUp(table, store);
    for (let round = 0; round < ROUNDS; round++) {
      await fill(table, round);
      const models = whileEmbedding(fixture.models, async (texts) => {
        for (const id of idsOf(texts)) {
          const statement = DELETES[(id + round) % DELETES.length];
          if (statement) await fixture.db.exec(statement(table, id));
        }
      });
      await workWith(fixture, models, 7);
      await expectFresh(fixture, held, EXPECTED);
    }
  });

  test.for(STORES)('deleted by a transaction that commits while the write is tried: store %s', async (store) => {
    const { db } = fixture;
    const table = `slow_${store}`;
    const held = await setUp(table, store);
    await fill(table, 0);
    let deleting: Promise<void> | undefined;
    const models = whileEmbedding(fixture.models, async (texts) => {
      if (deleting) return;
      const ids = idsOf(texts);
      await new Promise<void>((locked) => {
        deleting = db.tx(async (tx) => {
          await tx.query(`DELETE FROM ${table} WHERE id = ANY($1::bigint[])`, [ids.map(String)]);
          locked();
          await sleep(150);
        });
      });
    });
    await workWith(fixture, models, 7);
    await deleting;
    expect(await db.query(`SELECT count(*)::int AS rows FROM ${table}`)).toEqual([{ rows: ROWS - 7 }]);
    await fixture.work();
    await expectFresh(fixture, held, EXPECTED);
  });

  test.for(STORES)('truncated: store %s', async (store) => {
    const table = `wiped_${store}`;
    const held = await setUp(table, store);
    for (let round = 0; round < 3; round++) {
      await fill(table, round);
      let wiped = false;
      const models = whileEmbedding(fixture.models, async () => {
        if (wiped) return;
        wiped = true;
        await fixture.db.exec(`TRUNCATE ${table}; INSERT INTO ${table} VALUES (3, 'after the flood')`);
      });
      await workWith(fixture, models, 7);
      await expectFresh(fixture, held, EXPECTED);
    }
  });

  test.for(STORES)('again and again while workers go on: store %s', async (store) => {
    const { db } = fixture;
    const table = `busy_${store}`;
    const held = await setUp(table, store);
    let busy = true;
    const app = (async () => {
      for (let n = 0; n < 300; n++) {
        const id = n % 8;
        await db.exec(n % 3 === 0 ? `DELETE FROM ${table} WHERE id = ${id}` : upsert(table, id, n));
      }
      busy = false;
    })();
    const slow = whileEmbedding(fixture.models, () => sleep(5));
    while (busy) await workWith(fixture, slow, 3);
    await app;
    await fixture.work();
    await expectFresh(fixture, held, EXPECTED);
  });
});

function idsOf(texts: readonly string[]): number[] {
  return texts.flatMap((text) => /^round \d+ of (\d+)$/.exec(text)?.[1] ?? []).map(Number);
}

function upsert(table: string, id: number, n: number): string {
  return `INSERT INTO ${table} VALUES (${id}, 'text ${n}') ON CONFLICT (id) DO UPDATE SET body = excluded.body`;
}
