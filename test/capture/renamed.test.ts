import { describe, expect, test } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import { sweep } from '../../src/maintenance/sweep.js';
import { type Engine, openFixture } from '../support/fixture.js';

const STORES: readonly StoreKind[] = ['column', 'table'];
/** Content, key, tenant, and a column that freshvec itself added. */
const COLUMNS = ['body', 'id', 'kind', 'embedding_stale'] as const;
const SHAPES = STORES.flatMap((store) =>
  COLUMNS.filter((column) => store === 'column' || column !== 'embedding_stale').map((column) => ({ store, column })),
);

describe.each<Engine>(['postgres', 'pglite'])('a column that is renamed under a source, on %s', (engine) => {
  test.each(SHAPES)('does not fail the app, and nothing is lost: $column, store $store', async ({ store, column }) => {
    const fixture = await openFixture(engine);
    const { db } = fixture;
    try {
      await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, kind text, other text);
        INSERT INTO doc SELECT i, 'text ' || i, 'k', 'o' FROM generate_series(1, 6) i`);
      const added = await fixture.add({
        table: 'doc',
        content: { columns: ['body'] },
        tenant: 'kind',
        model: 'fake/a@8',
        store,
        index: 'none',
      });
      await fixture.work();
      await db.exec(`ALTER TABLE doc RENAME COLUMN ${column} TO renamed`);
      const now = (name: string) => (name === column ? 'renamed' : name);
      const [id, body] = [now('id'), now('body')];
      await db.exec(`INSERT INTO doc VALUES (7, 'text 7', 'k', 'o'), (8, 'text 8', 'k', 'o')`);
      await db.exec(`UPDATE doc SET ${body} = 'other 1' WHERE ${id} = 1`);
      await db.exec(`UPDATE doc SET ${body} = 'other ' || ${id} WHERE ${id} < 4`);
      await db.exec(`BEGIN; UPDATE doc SET ${body} = 'x' WHERE ${id} = 5; UPDATE doc SET ${body} = 'y' WHERE ${id} = 5;
        UPDATE doc SET ${id} = 50 WHERE ${id} = 5; COMMIT`);
      await db.exec(`UPDATE doc SET other = 'p', ${now('kind')} = 'l'`);
      await db.exec(`DELETE FROM doc WHERE ${id} = 6`);
      await db.exec(`BEGIN; SET LOCAL session_replication_role = replica;
        UPDATE doc SET ${body} = 'applied' WHERE ${id} = 4; INSERT INTO doc VALUES (9, 'text 9', 'k', 'o');
        DELETE FROM doc WHERE ${id} = 8; COMMIT`);
      await db.exec(`ALTER TABLE doc RENAME COLUMN renamed TO ${column}`);
      await sweep(db);
      await fixture.work();
      expect(await db.tx((tx) => added.store.count(tx))).toMatchObject({ rows: 7, fresh: 7, vectors: 7 });
    } finally {
      await fixture.close();
    }
  });
});
