import pg from 'pg';
import { expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import { getSpace } from '../../src/catalog/space.js';
import * as control from '../../src/reembed/control.js';
import { indexName } from '../../src/store/index-state.js';
import { start, stepUntil, workUntil } from '../reembed/support.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { openTransaction, vectorIndexes } from './index-builds.js';
import { eachTry } from './support/tries.js';

/** Who builds first; the other one comes while a writer's open transaction holds the first one up. */
const FIRST = [
  'the user',
  'freshvec',
  'freshvec, and the migration is paused',
  'the user, and the migration is aborted',
] as const;
const WRITER = ['BEGIN', 'LOCK TABLE doc IN ROW EXCLUSIVE MODE'];

test('fault 09: two concurrent builds on one table [O, no deadlock]', { timeout: 300_000 }, (context) =>
  eachTry(context, FIRST, async (first) => {
    const fixture = await openFixture();
    const { db } = fixture;
    const user = new pg.Client({ connectionString: fixture.url, application_name: 'user' });
    await user.connect();
    try {
      await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL);
        INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 300) i`);
      await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
      await fixture.work();
      const { id, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12', index: 'hnsw' });
      await stepUntil(fixture, id, 'indexing');
      const writer = await openTransaction(fixture.url, ...WRITER);
      const build = () => user.query('CREATE INDEX CONCURRENTLY by_user ON doc (body)');
      let theirs: Promise<unknown>;
      let ours: Promise<unknown>;
      const paused = first === 'freshvec, and the migration is paused';
      if (first === 'freshvec' || paused) {
        ours = workUntil(fixture, id, ['ready']);
        await builds(fixture, 1);
        theirs = build();
        await waitsForLock(fixture, 'user');
        if (paused) {
          // Ours is ended and theirs begins: what ours left must not be dropped just now.
          await control.pauseMigration(db, 'doc');
          await ours;
          await builds(fixture, 1);
        }
      } else {
        theirs = build();
        await builds(fixture, 1);
        if (first === 'the user, and the migration is aborted') await control.abort(db, 'doc');
        ours = workUntil(fixture, id, first === 'the user' ? ['ready'] : ['aborted']);
        // It is at work beside the build: says what it waits for, or has taken the abort on.
        const meets = async () => {
          const migration = await getMigration(db, id);
          return first === 'the user' ? migration?.reason !== undefined : migration?.token !== undefined;
        };
        await eventually(meets, { what: 'the controller to meet the build' });
      }
      ours.catch(() => {});
      await writer.query('COMMIT');
      await writer.end();
      await theirs;
      await ours;
      if (paused) {
        await control.resumeMigration(db, 'doc');
        await workUntil(fixture, id, ['ready']);
      }
      const { rows } = await user.query(
        `SELECT indisvalid AND indisready AS valid FROM pg_index WHERE indexrelid = 'by_user'::regclass`,
      );
      expect(rows).toEqual([{ valid: true }]);
      const space = await getSpace(db, toSpaceId);
      if (!space) throw new Error('no space');
      const aborted = first === 'the user, and the migration is aborted';
      expect(await vectorIndexes(db)).toEqual(aborted ? [] : [{ name: indexName(space), valid: true }]);
    } finally {
      await user.end();
      await fixture.close();
    }
  }),
);

function builds({ db }: Fixture, n: number): Promise<boolean> {
  const sql = `SELECT count(*) AS n FROM pg_stat_progress_create_index WHERE datname = current_database()
    AND phase = 'waiting for writers before build'`;
  const many = async () => (await db.query<{ n: number }>(sql))[0]?.n === n;
  return eventually(many, { timeoutMs: 30_000, what: 'a build that waits for the writer' });
}

function waitsForLock({ db }: Fixture, app: string): Promise<boolean> {
  const sql = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1 AND wait_event_type = 'Lock'`;
  return eventually(async () => (await db.query(sql, [app])).length > 0, { what: `a lock that ${app} waits for` });
}
