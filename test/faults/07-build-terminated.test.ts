import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureIndex } from '../../src/store/build-index.js';
import { indexName } from '../../src/store/index-state.js';
import { indexState } from '../../src/store/vector-indexes.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { expectIndexes, filledSource, openTransaction, reached, terminateIn, vectorIndexes } from './index-builds.js';
import type { Held } from './rows.js';
import { eachTry } from './support/tries.js';

/** Phases of CREATE INDEX CONCURRENTLY in order, and what makes the build stay in them; short ones are waited for. */
const WRITER = (table: string) => ['BEGIN', `UPDATE ${table} SET body = body WHERE id = 1`];
/** Rows that the build does not see, and that do not see its index: the validation has to insert them. */
const MISSED = (table: string) => [
  `INSERT INTO ${table} (id, body, embedding) SELECT (SELECT max(id) FROM ${table}) + row_number() OVER (), '', embedding
   FROM ${table} WHERE id BETWEEN 1 AND 1000`,
];
const PHASES: readonly { phase: string; hold?: (table: string) => string[]; late?: boolean }[] = [
  { phase: 'waiting for writers before build', hold: WRITER },
  { phase: 'building index: initializing' },
  { phase: 'building index: loading tuples' },
  { phase: 'waiting for writers before validation', hold: WRITER, late: true },
  { phase: 'index validation: scanning index' },
  { phase: 'index validation: scanning table', hold: MISSED, late: true },
  {
    phase: 'waiting for old snapshots',
    hold: () => ['BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM pg_class'],
  },
];

const ROWS = 1_500;
/** The short phases are met by trying again. */
const TIMEOUT_MS = 120_000;

describe('fault 07: backend terminated in each phase of CREATE INDEX CONCURRENTLY [O]', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
    // Somebody else's, left invalid: never ours to count or to drop, not even under a name like ours.
    await fixture.db.exec(`CREATE TABLE theirs (v vector(8)); CREATE INDEX freshvec_space_old ON theirs USING hnsw (v vector_l2_ops);
      UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'freshvec_space_old'::regclass`);
  });
  afterAll(() => fixture.close());

  test('plain table', { timeout: TIMEOUT_MS }, async (context) => {
    const { db } = fixture;
    const held = await filledSource(fixture, { table: 'note', rows: ROWS });
    const name = indexName(held.space);
    await eachTry(context, PHASES, async (phase) => {
      await terminatedIn(phase, 'note', held);
      expect(await ensureIndex(db, held.source, held.space)).toBe('built');
      expect(await ensureIndex(db, held.source, held.space)).toBe('valid');
      await expectIndexes(db, [name], ['freshvec_space_old']);
      await db.exec(`DROP INDEX ${name}`);
    });
  });

  test('table of vectors, and a leaf of a partitioned table', { timeout: TIMEOUT_MS }, async (context) => {
    const { db } = fixture;
    const beside = await filledSource(fixture, { table: 'beside', rows: ROWS, store: 'table' });
    const parted = await filledSource(fixture, { table: 'parted', rows: ROWS, partitions: 2 });
    await eachTry(context, ['beside', 'parted'], async (table) => {
      const held = table === 'beside' ? beside : parted;
      await terminatedIn({ phase: 'building index: loading tuples' }, table, held);
      expect(await ensureIndex(db, held.source, held.space)).toBe('built');
      expect(await indexState(db, held.source, held.space)).toBe('valid');
    });
    const leaves = await db.query<{ oid: number }>(
      `SELECT relid::oid::int8 AS oid FROM pg_partition_tree('parted') WHERE isleaf`,
    );
    const all = [
      indexName(beside.space),
      indexName(parted.space),
      ...leaves.map(({ oid }) => `${indexName(parted.space)}_${oid}`),
    ];
    await expectIndexes(db, all, ['freshvec_space_old']);
  });

  test('terminated while it drops what the last build left', async ({ task }) => {
    task.meta.tries = 1;
    const { db } = fixture;
    const held = await filledSource(fixture, { table: 'dropping', rows: ROWS });
    await terminatedIn({ phase: 'building index: loading tuples' }, 'dropping', held);
    const holder = await openTransaction(fixture.url, ...WRITER('dropping'));
    const mending = ensureIndex(db, held.source, held.space).catch((error: unknown) => error);
    const dropper = await eventually(
      async () => {
        const [row] = await db.query<{ pid: number }>(
          `SELECT pid FROM pg_stat_activity WHERE query LIKE 'DROP INDEX CONCURRENTLY%' AND wait_event_type = 'Lock' AND datname = current_database()`,
        );
        return row?.pid;
      },
      { what: 'DROP INDEX CONCURRENTLY that waits' },
    );
    await db.query('SELECT pg_terminate_backend($1::int)', [dropper]);
    expect(await mending).toMatchObject({ code: '57P01' });
    await holder.end();
    expect(await ensureIndex(db, held.source, held.space)).toBe('built');
    expect(await indexState(db, held.source, held.space)).toBe('valid');
  });

  /** Builds until the backend was terminated in this phase; a build that got past it is taken away and made again. */
  async function terminatedIn({ phase, hold, late }: (typeof PHASES)[number], table: string, { source, space }: Held) {
    const { db } = fixture;
    const before = (await vectorIndexes(db)).filter(({ valid }) => valid);
    for (let attempt = 0; attempt < 40; attempt++) {
      let over = false;
      const looking = hold ? undefined : terminateIn(db, phase);
      let holder = hold && !late ? await openTransaction(fixture.url, ...hold(table)) : undefined;
      const build = ensureIndex(db, source, space).then(
        () => undefined,
        (error: unknown) => error,
      );
      void build.then(() => {
        over = true;
      });
      // A writer that came before the build would hold it up too early.
      if (hold && late && (await reached(db, 'building index: loading tuples', () => over))) {
        holder = await openTransaction(fixture.url, ...hold(table));
      }
      const pid = hold ? await reached(db, phase, () => over) : false;
      if (pid !== false) await db.query('SELECT pg_terminate_backend($1::int)', [pid]);
      await looking;
      if (pid === false) await holder?.end();
      const failure = await build;
      if (pid !== false) await holder?.end();
      if (failure !== undefined) {
        expect(failure).toMatchObject({ code: '57P01' });
        // Nothing new counts as valid.
        expect((await vectorIndexes(db)).filter(({ valid }) => valid)).toEqual(before);
        expect(await indexState(db, source, space)).not.toBe('valid');
        return;
      }
      await db.exec(`DROP INDEX ${space.store === 'table' ? 'freshvec.' : ''}${indexName(space)}`);
    }
    throw new Error(`never met the build in "${phase}"`);
  }
});
