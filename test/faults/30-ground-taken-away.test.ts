import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Migration } from '../../src/catalog/migration.js';
import type { StoreKind } from '../../src/catalog/space.js';
import { sweep } from '../../src/maintenance/sweep.js';
import * as control from '../../src/reembed/control.js';
import { migrationStatus } from '../../src/reembed/status.js';
import { removeSource } from '../../src/source/index.js';
import { start } from '../reembed/support.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { drained, heldNow, keepMigrating, type Running } from './migrating.js';
import { expectFresh } from './rows.js';
import { eachTry } from './support/tries.js';

/** What somebody does to the ground, how it is taken back (where it can be), and what the reason says. */
interface Loss {
  readonly sql: string;
  readonly back?: string;
  readonly reason: RegExp;
  /** Capture watches it, for the old space too. */
  readonly watched?: boolean;
}

const LOSSES: Readonly<Record<string, Loss>> = {
  'the table is renamed': {
    sql: 'ALTER TABLE note RENAME TO remark',
    back: 'ALTER TABLE remark RENAME TO note',
    reason: /public\.note is called public\.remark now: rename it back, then `resume`/,
  },
  'a content column is renamed': {
    sql: 'ALTER TABLE note RENAME body TO words',
    back: 'ALTER TABLE note RENAME words TO body',
    reason: /the column body of public\.note was renamed or dropped: bring it back.*`resume`/,
    watched: true,
  },
  'a column that the filter reads is renamed': {
    sql: 'ALTER TABLE note RENAME mark TO sign',
    back: 'ALTER TABLE note RENAME sign TO mark',
    reason: /the column mark of public\.note was renamed or dropped: bring it back.*`resume`/,
    watched: true,
  },
  'the column of the new vectors is renamed': {
    sql: 'ALTER TABLE note RENAME embedding_2 TO mine',
    back: 'ALTER TABLE note RENAME mine TO embedding_2',
    reason: /the column embedding_2 was renamed.*bring it back, then `resume`, or `/,
  },
  'a companion of it is dropped': {
    sql: 'ALTER TABLE note DROP COLUMN embedding_2_hash',
    back: 'ALTER TABLE note ADD COLUMN embedding_2_hash uuid',
    reason: /the column embedding_2_hash was renamed, dropped or altered.*`resume`, or `/,
  },
};

const PHASES = ['backfilling', 'soaking'] as const;
const TIMEOUT_MS = 240_000;
const ROWS = { text: 'body' };

describe('fault 30: somebody renames or drops what a migration stands on [O, parked with a reason]', () => {
  let fixture: Fixture;
  let running: Running | undefined;
  beforeEach(async () => {
    fixture = await openFixture();
  });
  afterEach(async () => {
    await running?.stop();
    await fixture.close();
  });

  /** A migration in this state. The app has an index and a column of its own, and a table that refers to nothing. */
  async function inPhase(phase: (typeof PHASES)[number], store: StoreKind = 'column'): Promise<Migration> {
    const { db } = fixture;
    await db.exec(`CREATE TABLE note (id int PRIMARY KEY, body text, mark int); CREATE INDEX note_mark ON note (mark);
      INSERT INTO note SELECT i, 'note ' || i, i FROM generate_series(1, 120) i`);
    await fixture.add({ table: 'note', content: { columns: ['body'] }, where: 'mark > 0', model: 'fake/a@8', store });
    await fixture.work();
    const migration = await start(fixture, 'note', { model: 'fake/b@12', store });
    running = keepMigrating(fixture, migration.id);
    running.works = phase !== 'backfilling';
    if (phase === 'backfilling') return running.state(phase);
    await running.state('ready');
    await control.cutover(db, 'note');
    return running.state(phase);
  }

  async function end(): Promise<void> {
    await running?.stop();
    running = undefined;
    await fixture.db.exec('DROP TABLE note CASCADE; DELETE FROM freshvec.source');
  }

  test(
    'parked with the name and what to do; once it is taken back, `resume` goes on where it was',
    async (context) => {
      const { db } = fixture;
      const tries = PHASES.flatMap((phase) => Object.keys(LOSSES).map((loss) => ({ phase, loss })));
      await eachTry(context, tries, async ({ phase, loss: name }) => {
        const loss = LOSSES[name] as Loss;
        const { id, toSpaceId, fromSpaceId } = await inPhase(phase);
        if (!running) throw new Error('no controller');
        running.works = false; // A worker has its own word on a lost column.
        await db.exec(loss.sql);
        const parked = await running.state('parked');
        expect(parked.parkedState).toBe(phase);
        expect(parked.reason).toMatch(loss.reason);
        expect((await migrationStatus(db, 'note')).reason).toMatch(loss.reason);
        // Nobody goes on by himself, and a resume that comes too early is parked again with the same word.
        await control.resumeMigration(db, 'note');
        expect((await running.state('parked')).reason).toBe(parked.reason);

        await db.exec(loss.back ?? '');
        await control.resumeMigration(db, 'note');
        running.works = true;
        await running.until('work again', (now) => now.state !== 'parked');
        if (phase === 'backfilling') {
          await running.state('ready');
          await control.cutover(db, 'note');
        }
        await db.exec(`UPDATE note SET body = 'edited after ' || $$${name}$$ WHERE id = 7`);
        // Hashes that were dropped are gone for good: a sweep has them made again.
        if (name === 'a companion of it is dropped') await sweep(db, 'note');
        await drained(fixture, [{ id: fromSpaceId }, { id: toSpaceId }]);
        await expectFresh(fixture, await heldNow(fixture, 'note', toSpaceId), ROWS);
        expect(id).toBe(parked.id);
        await end();
      });
    },
    TIMEOUT_MS,
  );

  test(
    '`abort` works while it is parked, and drops nothing of the app’s',
    async (context) => {
      const { db } = fixture;
      await eachTry(context, Object.keys(LOSSES), async (name) => {
        const loss = LOSSES[name] as Loss;
        const { fromSpaceId } = await inPhase('backfilling');
        if (!running) throw new Error('no controller');
        await db.exec(loss.sql);
        await running.state('parked');
        await control.abort(db, 'note');
        if (loss.watched) {
          // The abort goes on by itself once it is back.
          await running.until('the reason', (now) => now.state === 'contracting' && loss.reason.test(now.reason ?? ''));
          await db.exec(loss.back ?? '');
        }
        await running.state('aborted');
        if (name === 'the table is renamed') await db.exec(loss.back ?? '');
        const columns = await db.query<{ name: string }>(
          `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'note'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
        );
        const names = columns.map((column) => column.name);
        const kept = name === 'the column of the new vectors is renamed' ? ['mine'] : []; // Somebody's, by its name.
        const old = ['_stale', '', '_model', '_hash'].map((end) => `embedding${end}`);
        expect(names).toEqual(['id', 'body', 'mark', ...old, ...kept]);
        expect(await db.query(`SELECT count(*)::int AS n FROM note WHERE mark IS NOT NULL`)).toEqual([{ n: 120 }]);
        expect(await db.query(`SELECT to_regclass('note_mark') IS NOT NULL AS there`)).toEqual([{ there: true }]);
        // The old space goes on being kept fresh.
        await db.exec(`UPDATE note SET body = 'edited after the abort' WHERE id = 3`);
        running.works = true;
        await drained(fixture, [{ id: fromSpaceId }]);
        await expectFresh(fixture, await heldNow(fixture, 'note', fromSpaceId), ROWS);
        await end();
      });
    },
    TIMEOUT_MS,
  );

  test(
    'a table that was dropped: parked, a table of the same name is left alone, and `abort` ends it',
    async (context) => {
      const { db } = fixture;
      const tries = (['column', 'table'] as const).flatMap((store) => PHASES.map((phase) => ({ store, phase })));
      await eachTry(context, tries, async ({ store, phase }) => {
        const { toSpaceId } = await inPhase(phase, store);
        if (!running) throw new Error('no controller');
        await db.exec('DROP TABLE note CASCADE');
        const parked = await running.state('parked');
        expect(parked.reason).toMatch(/the table public\.note was dropped/);
        expect(parked.reason).toMatch(/source remove note/);
        // Somebody else's now, with all that freshvec's columns are called.
        await db.exec(`CREATE TABLE note (id int PRIMARY KEY, body text, embedding_2 text, embedding_2_hash text);
        INSERT INTO note VALUES (1, 'mine', 'mine', 'mine')`);
        await control.resumeMigration(db, 'note');
        expect((await running.state('parked')).reason).toBe(parked.reason);
        if (phase === 'backfilling') {
          await control.abort(db, 'note');
          await running.state('aborted');
          expect(await db.query(`SELECT to_regclass('freshvec.vector_' || $1) AS t`, [toSpaceId])).toEqual([
            { t: null },
          ]);
        } else {
          await expect(control.abort(db, 'note')).rejects.toThrow(/rollback/);
        }
        expect(await db.query('SELECT * FROM note')).toEqual([
          { id: 1, body: 'mine', embedding_2: 'mine', embedding_2_hash: 'mine' },
        ]);
        await running.stop();
        running = undefined;
        await removeSource(db, 'note', { dropVectors: true });
        expect(await db.query('SELECT id FROM freshvec.migration')).toEqual([]);
        expect(await db.query('SELECT body FROM note')).toEqual([{ body: 'mine' }]);
        await db.exec('DROP TABLE note');
      });
    },
    TIMEOUT_MS,
  );
});
