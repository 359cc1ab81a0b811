import { afterEach, expect, test } from 'vitest';
import { removeSource } from '../../src/source/index.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
afterEach(() => fixture.close());

test.each(['column', 'table'] as const)(
  'a source that is removed and added again pays only for what changed meanwhile (%s)',
  async (store) => {
    fixture = await openFixture();
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
      INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 20) i`);
    const definition = {
      table: 'doc',
      content: { columns: ['body'] },
      model: 'fake/p@8',
      store,
      index: 'none',
    } as const;
    await fixture.add(definition);
    expect((await fixture.work()).written).toBe(20);
    await removeSource(db, 'doc', { dropVectors: false });
    await db.exec(
      `UPDATE doc SET body = 'new' WHERE id <= 3; DELETE FROM doc WHERE id > 15; INSERT INTO doc VALUES (30, 'x')`,
    );
    const again = await fixture.add(definition);
    expect((await fixture.work()).written).toBe(4);
    expect(await db.tx((tx) => again.store.count(tx))).toMatchObject({ rows: 16, fresh: 16, vectors: 16 });
  },
);
