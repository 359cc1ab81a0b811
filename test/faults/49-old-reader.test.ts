import { expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import { migrateUntilReady, reembed, withReaders } from './reader.js';
import { TIMEOUT_MS, withSystem } from './support/system.js';

/** What becomes of the old reader after `complete` was refused because of it. */
const VARIANTS = ['goes on', 'is told to end', 'is killed'] as const;

test('fault 49: `complete` while an old reader is still active: refused [R]', {
  timeout: 2 * TIMEOUT_MS,
}, async (context) => {
  context.task.meta.tries = VARIANTS.length;
  await withSystem({ app: { searches: false } }, (system) =>
    withReaders(async (start) => {
      const { db, app } = system;
      app.start();
      await migrateUntilReady(system, ['--index', 'none']);
      const epochs = async (pid: number) =>
        (
          await db.query<{ epoch: number }>(
            `SELECT epoch FROM freshvec.reader WHERE split_part(name, ' ', 1) LIKE '%:' || $1`,
            [String(pid)],
          )
        ).map(({ epoch }) => epoch);
      for (const [attempt, variant] of VARIANTS.entries()) {
        // Every round before made four switches.
        const epoch = 1 + 4 * attempt;
        // It rests between two searches when it is stopped: in a transaction the server would end its connection.
        const reader = start({ ...system.env, SEARCH_EVERY_MS: '3000' });
        await eventually(async () => (await epochs(reader.pid)).includes(epoch), {
          timeoutMs: 30_000,
          what: 'its word',
        });
        reader.send('SIGSTOP');
        await reembed(system, 'cutover', 'doc');

        const refused = await system.cli(['reembed', 'complete', 'doc', '--confirm', 'doc']);
        expect(refused.code).toBe(1);
        expect(refused.stderr).toContain(`:${reader.pid} `);
        const status = await reembed(system, 'status', 'doc');
        expect(status.state).toBe('soaking');
        expect(status.readers).toEqual([expect.stringContaining(`:${reader.pid} `)]);
        // The old space is whole: nothing of it was touched.
        if (variant !== 'is killed') {
          await reembed(system, 'rollback', 'doc');
          await reembed(system, 'cutover', 'doc');
        }

        if (variant === 'is killed') {
          await reader.end('SIGKILL');
          expect((await system.cli(['reembed', 'complete', 'doc', '--confirm', 'doc'])).code).toBe(1);
          // Its word counts for 90 s by the database's clock; this is that clock going on.
          await db.query(`UPDATE freshvec.reader SET expires_at = clock_timestamp() - interval '1 s'`);
        } else {
          reader.send('SIGCONT');
          await eventually(async () => (await epochs(reader.pid)).every((known) => known > epoch), {
            timeoutMs: 30_000,
            what: 'the reader to notice the switch',
          });
          if (variant === 'is told to end') {
            expect(await reader.end('SIGTERM')).toBe(0);
            expect(await epochs(reader.pid)).toEqual([]);
          }
        }
        expect((await reembed(system, 'status', 'doc')).readers).toEqual([]);
        if (variant === 'goes on') expect(await reader.end('SIGTERM')).toBe(0);
        for (const searched of reader.searched()) {
          expect(searched.error).toBeUndefined();
          expect(new Set(searched.models).size).toBe(1);
        }
        if (variant !== 'is killed') await reembed(system, 'rollback', 'doc');
      }
      await app.stop();
      app.assertUndisturbed();
      // R: until the very moment of `complete` the space that it drops is fresh.
      await system.assertFresh();
      await db.exec('DROP TRIGGER oracle_log ON doc'); // The harness's own, which stands on the column.
      expect(await reembed(system, 'complete', 'doc', '--confirm', 'doc')).toMatchObject({
        state: 'contracting',
        readers: [],
      });
    }),
  );
});
