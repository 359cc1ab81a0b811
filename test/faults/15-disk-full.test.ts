/** The new space's table and index are in a tablespace on a file system of a few MB; the app's tables are not. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cutover, resumeMigration } from '../../src/reembed/control.js';
import { indexName } from '../../src/store/index-state.js';
import { start } from '../reembed/support.js';
import { asAdmin } from '../support/admin.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { openTransaction } from './index-builds.js';
import { drained, heldNow, keepMigrating } from './migrating.js';
import { expectFresh } from './rows.js';
import { type DiskServer, type SmallDisk, startDiskServer } from './support/small-disk.js';

const TIMEOUT_MS = 240_000;
const ROWS = { text: 'body' };
const FULL = /No space left on device|could not extend file/;

describe('fault 15: the disk is full during ingest and during the index build [Q O C]', () => {
  let disks: DiskServer | undefined;
  let disk: SmallDisk;
  let fixture: Fixture;
  beforeAll(async () => {
    disks = await startDiskServer();
    if (!disks) return;
    disk = await disks.mount('../small', 2_048);
    await asAdmin(disks.server.url, (admin) => admin.query(`CREATE TABLESPACE small LOCATION '${disk.location}'`));
    fixture = await openFixture('postgres', await disks.database('disk'));
  }, TIMEOUT_MS);
  afterAll(async () => {
    await fixture?.close();
    await disks?.stop();
  });

  test(
    'the app goes on, the live space stays fresh, the migration says why it waits, and all is well once there is room',
    async (context) => {
      if (!disks) return context.skip('needs the private Debian tree, and root to mount');
      const { db } = fixture;
      await db.exec(`CREATE TABLE note (id int PRIMARY KEY, body text);
        INSERT INTO note SELECT i, 'note ' || i FROM generate_series(1, 600) i`);
      await fixture.add({ table: 'note', content: { columns: ['body'] }, model: 'fake/a@8', store: 'table' });
      await fixture.work();
      const migration = await start(fixture, 'note', { model: 'fake/b@1024', store: 'table' });
      const { fromSpaceId, toSpaceId } = migration;
      // What freshvec makes from here on is in the small place: 600 vectors of 4 kB do not fit.
      await db.exec(`ALTER ROLE CURRENT_USER IN DATABASE ${disksDatabase(fixture)} SET default_tablespace = small`);
      await reconnected(fixture);

      const app = await openTransaction(
        fixture.url,
        `SET lock_timeout = '100ms'`,
        'SET default_tablespace = pg_default',
      );
      let serial = 1_000;
      const use = async () => {
        serial += 1;
        await app.query(`INSERT INTO note (id, body) VALUES (${serial}, 'new ${serial}')`);
        await app.query(`UPDATE note SET body = 'edited ${serial}' WHERE id = ${2 + (serial % 500)}`);
        await app.query(`DELETE FROM note WHERE id = ${serial - 3}`);
      };
      const running = keepMigrating(fixture, migration.id);
      try {
        const met = () => running.errors.some((error) => FULL.test(String(error)));
        await eventually(met, { timeoutMs: 90_000, what: 'a full disk' });
        expect(await placeOf(fixture, `freshvec.vector_${toSpaceId}`)).toBe('small');
        for (let done = 0; done < 40; done++) await use();
        // The other space is none of its business.
        await drained(fixture, [{ id: fromSpaceId }]);
        await expectFresh(fixture, await heldNow(fixture, 'note', fromSpaceId), ROWS);
        expect((await running.until('still backfilling', () => true)).state).toBe('backfilling');
        // Nobody's text is to blame.
        expect(await db.query('SELECT key, code, message FROM freshvec.failure')).toEqual([]);

        // Room for the vectors, not for their index, which is as large.
        disk.resize(6_144);
        const parked = await running.state('parked');
        expect(parked.parkedState).toBe('indexing');
        expect(parked.reason).toMatch(/the index cannot be built: could not extend file.*No space left on device/);
        for (let done = 0; done < 40; done++) await use();
        // Its half is not left to keep the disk full: edits go on reaching both spaces.
        expect(await indexNow(fixture, toSpaceId)).toBe('none');
        await drained(fixture, [{ id: fromSpaceId }, { id: toSpaceId }]);
        for (const id of [fromSpaceId, toSpaceId]) await expectFresh(fixture, await heldNow(fixture, 'note', id), ROWS);
        await expect(cutover(db, 'note')).rejects.toThrow(/parked/);
        await resumeMigration(db, 'note');
        expect((await running.state('parked')).reason).toMatch(/No space left on device/);

        disk.resize(65_536);
        await resumeMigration(db, 'note');
        await running.state('ready');
        expect(await indexNow(fixture, toSpaceId)).toBe('valid');
        await use();
        await drained(fixture, [{ id: fromSpaceId }, { id: toSpaceId }]);
        for (const id of [fromSpaceId, toSpaceId]) await expectFresh(fixture, await heldNow(fixture, 'note', id), ROWS);
        await cutover(db, 'note');
      } finally {
        await app.end();
        await running.stop();
      }
    },
    TIMEOUT_MS,
  );
});

function disksDatabase({ url }: Fixture): string {
  return new URL(url).pathname.slice(1);
}

/** Connections of the pool that began before the setting are ended: the next ones have it. */
async function reconnected({ db, url }: Fixture): Promise<void> {
  const sql = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'test'`;
  await asAdmin(url, (admin) => admin.query(sql));
  const has = async () =>
    (await db.query<{ default_tablespace: string }>('SHOW default_tablespace'))[0]?.default_tablespace === 'small';
  await eventually(has, { what: 'a connection with the setting' });
}

async function placeOf({ db }: Fixture, relation: string): Promise<string | undefined> {
  const [row] = await db.query<{ name: string | null }>(
    `SELECT t.spcname AS name FROM pg_class c LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace
     WHERE c.oid = $1::text::regclass`,
    [relation],
  );
  return row?.name ?? undefined;
}

async function indexNow(fixture: Fixture, spaceId: number): Promise<'none' | 'invalid' | 'valid'> {
  const { space } = await heldNow(fixture, 'note', spaceId);
  const [row] = await fixture.db.query<{ valid: boolean }>(
    'SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass($1)',
    [`freshvec.${indexName(space)}`],
  );
  return row === undefined ? 'none' : row.valid ? 'valid' : 'invalid';
}
