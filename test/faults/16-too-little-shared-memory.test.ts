/**
 * The server's dynamic shared memory is a file system of 32 MB here, mounted over its own: a parallel build of an HNSW
 * index wants a segment of maintenance_work_mem, and PostgreSQL itself fails it.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureIndex } from '../../src/store/build-index.js';
import { indexName } from '../../src/store/index-state.js';
import { ownIndexes, vectorRelations } from '../../src/store/own-index.js';
import { rebuildIndex } from '../../src/store/rebuild-index.js';
import { start } from '../reembed/support.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { expectIndexes, filledSource } from './index-builds.js';
import { drained, heldNow, keepMigrating } from './migrating.js';
import { expectFresh } from './rows.js';
import { type DiskServer, startDiskServer } from './support/small-disk.js';

const TIMEOUT_MS = 180_000;
const NO_MEMORY = /could not resize shared memory segment .* No space left on device/;

describe('fault 16: too little shared memory for a parallel index build [O, falls back]', () => {
  let disks: DiskServer | undefined;
  let fixture: Fixture;
  beforeAll(async () => {
    disks = await startDiskServer({
      settings: {
        dynamic_shared_memory_type: 'mmap',
        min_parallel_table_scan_size: 0,
        max_parallel_maintenance_workers: 2,
        maintenance_work_mem: '128MB',
      },
    });
    if (!disks) return;
    await disks.server.down();
    await disks.mount('pg_dynshmem', 32_768);
    await disks.server.up();
    fixture = await openFixture('postgres', await disks.database('shm'));
  }, TIMEOUT_MS);
  afterAll(async () => {
    await fixture?.close();
    await disks?.stop();
  });

  test(
    'the build is done by one process, and nothing invalid is left',
    async (context) => {
      if (!disks) return context.skip('needs the private Debian tree, and root to mount');
      const { db } = fixture;
      const { source, space } = await filledSource(fixture, { table: 'note', rows: 2_000 });
      await db.exec('ALTER TABLE note SET (parallel_workers = 2)');
      // The seam is real: whoever builds it plainly fails, and leaves an invalid index.
      const plain = 'CREATE INDEX CONCURRENTLY mine ON note USING hnsw (embedding vector_cosine_ops)';
      await expect(db.session((session) => session.query(plain))).rejects.toThrow(NO_MEMORY);
      await expectIndexes(db, [], ['mine']);
      await db.exec('DROP INDEX mine');

      expect(await ensureIndex(db, source, space)).toBe('built');
      await expectIndexes(db, [indexName(space)]);
      expect(await ensureIndex(db, source, space)).toBe('valid');

      // So is a rebuild, which would fail for good else.
      const again = `REINDEX INDEX CONCURRENTLY ${indexName(space)}`;
      await expect(db.session((session) => session.query(again))).rejects.toThrow(NO_MEMORY);
      const [own] = (await ownIndexes(db, source, space, await vectorRelations(db, source, space))).values();
      if (!own) throw new Error('no index');
      await rebuildIndex(db, source, space, own, { lockTimeoutMs: 0 });
      await expectIndexes(db, [indexName(space)]);
    },
    TIMEOUT_MS,
  );

  test(
    'a migration notices nothing: its index is built at the first try',
    async (context) => {
      if (!disks) return context.skip('needs the private Debian tree, and root to mount');
      const { db } = fixture;
      await db.exec(`CREATE TABLE page (id int PRIMARY KEY, body text) WITH (parallel_workers = 2);
        INSERT INTO page SELECT i, 'page ' || i FROM generate_series(1, 400) i`);
      await fixture.add({ table: 'page', content: { columns: ['body'] }, model: 'fake/a@8' });
      await fixture.work();
      const { id, toSpaceId } = await start(fixture, 'page', { model: 'fake/b@12' });
      const running = keepMigrating(fixture, id);
      try {
        await running.state('ready');
        const tries = await db.query(
          `SELECT what FROM freshvec.migration_event WHERE migration_id = $1 AND what ~ 'shared memory'`,
          [id],
        );
        expect([tries, running.errors]).toEqual([[], []]);
        const held = await heldNow(fixture, 'page', toSpaceId);
        const [index] = await db.query<{ valid: boolean }>(
          'SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = $1::text::regclass',
          [indexName(held.space)],
        );
        expect(index).toEqual({ valid: true });
        await drained(fixture, [{ id: toSpaceId }]);
        await expectFresh(fixture, held, { text: 'body' });
      } finally {
        await running.stop();
      }
    },
    TIMEOUT_MS,
  );
});
