import { afterEach, expect, test } from 'vitest';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
afterEach(() => fixture.close());

test.each(['postgres', 'pglite'] as const)(
  'rows that move while a table is loaded are not missed, on %s',
  async (engine) => {
    fixture = await openFixture(engine);
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, note text);
    INSERT INTO doc SELECT i, 'text ' || i FROM generate_series(1, 500) i`);
    const { store } = await fixture.add({
      table: 'doc',
      content: { columns: ['body'] },
      model: 'fake/p@16',
      index: 'none',
    });
    // Of no interest to capture; the rows' new versions go to pages that were not there when the load was planned.
    await db.query(`UPDATE doc SET note = repeat('x', 200)`);
    await fixture.work();
    expect(await db.tx((tx) => store.count(tx))).toMatchObject({ rows: 500, fresh: 500 });
  },
);
