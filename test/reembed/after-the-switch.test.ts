import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import { getSpace } from '../../src/catalog/space.js';
import { isTended } from '../../src/maintenance/tended.js';
import { advance } from '../../src/reembed/advance.js';
import * as control from '../../src/reembed/control.js';
import { takeOver } from '../../src/reembed/transition.js';
import { alterSource } from '../../src/source/index.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { deps, start, workUntil } from './support.js';

const ROWS = 60;

let fixture: Fixture;
beforeEach(async () => {
  fixture = await openFixture();
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, title text);
    INSERT INTO doc SELECT i, 'text number ' || i, 'title ' || i FROM generate_series(1, ${ROWS}) i`);
  await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
  await fixture.work();
});
afterEach(() => fixture.close());

const HELD_UP = {
  'parked, since the old vectors are gone': async (id: number) => {
    await fixture.db.exec('ALTER TABLE doc RENAME COLUMN embedding TO elsewhere');
    const migration = await takeOver(fixture.db, id, randomUUID(), true);
    if (migration) await advance(deps(fixture.db), migration, new AbortController().signal);
    expect(await getMigration(fixture.db, id)).toMatchObject({ state: 'parked', parkedState: 'soaking' });
  },
  'dropping the old vectors, and paused': async (id: number) => {
    await control.complete(fixture.db, 'doc');
    await control.pauseMigration(fixture.db, 'doc');
    expect(await getMigration(fixture.db, id)).toMatchObject({ state: 'contracting', paused: true });
  },
};

test.each(Object.entries(HELD_UP))('a space that is live is visited and tended: the move is %s', async (_, holdUp) => {
  const { db } = fixture;
  const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12' });
  await workUntil(fixture, id, ['ready']);
  await control.cutover(db, 'doc');
  await holdUp(id);
  await alterSource(db, 'doc', { content: { columns: ['title'] } });
  await fixture.work().catch(() => {}); // The old vectors cannot be written.
  const made = `SELECT count(*) AS n FROM doc WHERE embedding_2_hash = md5(title)::uuid`;
  expect(await db.query(made)).toEqual([{ n: ROWS }]);
  const live = await getSpace(db, toSpaceId);
  expect(live && (await isTended(db, live))).toBe(true);
});
