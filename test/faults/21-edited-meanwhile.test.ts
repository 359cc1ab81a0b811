import { afterAll, beforeAll, describe, test } from 'vitest';
import { type Fixture, openFixture } from '../support/fixture.js';
import { expectFresh, expectHonest, type Held, MODEL, STORES, whileEmbedding, workWith } from './rows.js';

const ROWS = 30;
const ROUNDS = 10;
const EXPECTED = { text: 'body' };

/** What the app does to a row whose text is at the provider. Run in turn, one for each row and round. */
const EDITS: readonly ((table: string, id: number, round: number) => string)[] = [
  (table, id, round) => `UPDATE ${table} SET body = 'edited ${round}' WHERE id = ${id}`,
  (table, id, round) => `UPDATE ${table} SET body = 'first ${round}' WHERE id = ${id};
    UPDATE ${table} SET body = 'second ${round}' WHERE id = ${id}`,
  (table, id) => `UPDATE ${table} SET body = body || '!' WHERE id = ${id};
    UPDATE ${table} SET body = left(body, -1) WHERE id = ${id}`,
  (table, id) => `UPDATE ${table} SET body = ' ' WHERE id = ${id}`,
  (table, id) => `UPDATE ${table} SET body = NULL WHERE id = ${id}`,
  (table, id) => `UPDATE ${table} SET n = n + 1 WHERE id = ${id}`,
  (table, id) => `BEGIN; UPDATE ${table} SET body = 'never' WHERE id = ${id}; ROLLBACK`,
  () => 'SELECT 1',
];

describe('fault 21: text edited during the provider call [C]', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
  });
  afterAll(() => fixture.close());

  test.for(STORES)('store %s', async (store, { task }) => {
    task.meta.tries = ROUNDS * ROWS;
    const { db } = fixture;
    const table = `note_${store}`;
    await db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, n int DEFAULT 0);
      INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, ${ROWS}) i`);
    const held = await fixture.add({ table, content: { columns: ['body'] }, model: MODEL, store });
    for (let round = 0; round < ROUNDS; round++) {
      await db.exec(`UPDATE ${table} SET body = 'round ${round} of ' || id`);
      await workWith(fixture, editing(fixture, table, round, held), 7);
      await expectFresh(fixture, held, EXPECTED);
    }
  });

  /** Edits each row once while a text of that round is away. */
  function editing(fixture: Fixture, table: string, round: number, held: Held) {
    const edited = new Set<number>();
    return whileEmbedding(fixture.models, async (texts) => {
      await expectHonest(fixture, held, EXPECTED);
      for (const text of texts) {
        const id = Number(/^round \d+ of (\d+)$/.exec(text)?.[1] ?? 0);
        if (id === 0 || edited.has(id)) continue;
        edited.add(id);
        const edit = EDITS[(id + round) % EDITS.length];
        if (edit) await fixture.db.exec(edit(table, id, round));
      }
    });
  }
});
