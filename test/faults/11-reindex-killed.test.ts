import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { buildIndexes } from '../../src/maintenance/build-indexes.js';
import { reindexSource } from '../../src/maintenance/reindex-source.js';
import { listRuns } from '../../src/maintenance/run-log.js';
import { asOnlyHeavy } from '../../src/maintenance/services.js';
import { indexName } from '../../src/store/index-state.js';
import { dropLeftovers } from '../../src/store/leftovers.js';
import { indexState } from '../../src/store/vector-indexes.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { builder, expectIndexes, filledSource, openTransaction, terminateIn, vectorIndexes } from './index-builds.js';
import type { Held } from './rows.js';
import { eachTry } from './support/tries.js';

/** Phases of REINDEX CONCURRENTLY in which it is killed, and what keeps it there; short ones are met by a loop. */
const WRITER = (table: string) => ['BEGIN', `UPDATE ${table} SET body = body WHERE id = 1`];
const READER = (table: string) => ['BEGIN', `SELECT count(*) FROM ${table}`];
const PHASES: readonly { phase: string; hold?: (table: string) => string[]; replaced?: boolean }[] = [
  { phase: 'waiting for writers before build', hold: WRITER },
  { phase: 'building index: loading tuples' },
  { phase: 'index validation: scanning index' },
  {
    phase: 'waiting for old snapshots',
    hold: () => ['BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM pg_class'],
  },
  // The new index has the name by now, and the old one waits for whoever reads by it.
  { phase: 'waiting for readers before marking dead', hold: READER, replaced: true },
];
const ROWS = 1_500;
const OPTIONS = { lockTimeoutMs: 0 } as const;
const TIMEOUT_MS = 120_000;

describe('fault 11: REINDEX CONCURRENTLY killed; left-overs with and without our name [O]', () => {
  let fixture: Fixture;
  let held: Held;
  let name: string;
  /** Nobody's business: a stranger's left-overs, and names that only look like ours. */
  const THEIRS = ['theirs_ccnew', 'freshvec_space_99_ccnew', 'freshvec_space_1_ccnewer', 'freshvec_space_1_ccold_kept'];
  /** Valid, under the very name of a left-over: somebody made it, and searches may use it. */
  let valid: string;

  beforeAll(async () => {
    fixture = await openFixture();
    const { db } = fixture;
    held = await filledSource(fixture, { table: 'note', rows: ROWS });
    name = indexName(held.space);
    expect(name).toBe('freshvec_space_1');
    await buildIndexes(db);
    valid = `${name}_ccold7`;
    for (const index of [...THEIRS, valid]) {
      await db.exec(
        `CREATE INDEX ${index} ON note USING hnsw (embedding vector_l2_ops) WITH (m = 2, ef_construction = 4)`,
      );
    }
    await db.exec(
      `CREATE TABLE other (v vector(8)); CREATE INDEX ${name}_ccnew9 ON other USING hnsw (v vector_l2_ops);
       UPDATE pg_index SET indisvalid = false WHERE indexrelid IN (${[...THEIRS, `${name}_ccnew9`].map((i) => `'${i}'::regclass`).join()})`,
    );
  });
  afterAll(() => fixture.close());

  const asItWas = () => expectIndexes(fixture.db, [name, valid], [...THEIRS, `${name}_ccnew9`]);

  test('killed in each phase: what serves is valid, and only what is ours and half built goes', {
    timeout: TIMEOUT_MS,
  }, async (context) => {
    const { db } = fixture;
    await asItWas();
    await eachTry(context, PHASES, async ({ phase, hold, replaced }) => {
      await killedIn(phase, hold);
      const left = (await vectorIndexes(db)).filter((index) => index.name.startsWith(`${name}_cc`) && !index.valid);
      const own = left
        .map((index) => index.name)
        .filter((one) => /^freshvec_space_1_cc(new|old)\d?$/.test(one) && one !== `${name}_ccnew9`);
      expect(own).toEqual([`${name}_${replaced ? 'ccold' : 'ccnew'}`]);
      // The index itself never stopped serving, whatever is left over beside it.
      expect(await vectorIndexes(db)).toContainEqual({ name, valid: true });
      expect(await indexState(db, held.source, held.space)).toBe('valid');
      expect(await buildIndexes(db)).toBe(0);
      await asItWas();
    });
  });

  test('the process of freshvec is gone in the middle: the next one cleans up and says so', async ({ task }) => {
    task.meta.tries = 1;
    const { db } = fixture;
    const holder = await openTransaction(fixture.url, ...WRITER('note'));
    const run = reindexSource(db, 'note', {}, OPTIONS).catch((error: unknown) => error);
    const pid = await reindexing('waiting for writers before build');
    // Its left-over is being made just now: nobody drops it from under it, nor builds beside it.
    expect(await dropLeftovers(db, held.source, held.space)).toEqual([]);
    expect(await buildIndexes(db)).toBe(0);
    await expect(reindexSource(db, 'note', { m: 8 }, OPTIONS)).rejects.toMatchObject({ code: 'maintenance_busy' });
    await db.query('SELECT pg_terminate_backend($1::int)', [pid]);
    expect(await run).toMatchObject({ code: '57P01' });
    await holder.end();
    expect((await listRuns(db, { limit: 1 }))[0]).toMatchObject({ service: 'reindex', outcome: 'failed' });
    await buildIndexes(db);
    await asItWas();
    // A process that was killed leaves its line, and its leases until they expire.
    await db.exec(
      `INSERT INTO freshvec.maintenance_run (service, by_person, did) VALUES ('reindex', true, 'rebuilding: killed')`,
    );
    await asOnlyHeavy(db, async () => {});
    expect((await listRuns(db, { limit: 1 }))[0]).toMatchObject({ outcome: 'interrupted', did: 'rebuilding: killed' });
    expect(await reindexSource(db, 'note', {}, OPTIONS)).toMatchObject({ outcome: 'rebuilt' });
    await asItWas();
  });

  test('told to stop: the build is cancelled, what it left is dropped, the index serves on', async ({ task }) => {
    task.meta.tries = 1;
    const { db } = fixture;
    const holder = await openTransaction(fixture.url, ...WRITER('note'));
    const stop = new AbortController();
    const run = reindexSource(db, 'note', {}, { ...OPTIONS, signal: stop.signal }).catch((error: unknown) => error);
    await reindexing('waiting for writers before build');
    stop.abort();
    await eventually(async () => (await builder(db)) === undefined, { what: 'the end of the build' });
    await holder.end();
    expect(await run).toMatchObject({ name: 'AbortError' });
    expect((await listRuns(db, { limit: 1 }))[0]).toMatchObject({ outcome: 'interrupted' });
    await buildIndexes(db);
    await asItWas();
  });

  test('a REINDEX that somebody runs by hand is left to itself', async ({ task }) => {
    task.meta.tries = 1;
    const { db } = fixture;
    const holder = await openTransaction(fixture.url, ...WRITER('note'));
    const hand = await openTransaction(fixture.url);
    const done = hand.query(`REINDEX INDEX CONCURRENTLY ${name}`);
    await reindexing('waiting for writers before build');
    expect(await dropLeftovers(db, held.source, held.space)).toEqual([]);
    const runs = await listRuns(db, { limit: 1 });
    await expect(reindexSource(db, 'note', {}, OPTIONS)).rejects.toMatchObject({
      code: 'maintenance_busy',
      message: expect.stringMatching(/An index is being built on the table by pid \d+/),
    });
    expect((await listRuns(db, { limit: 1 }))[0]?.id).toBeGreaterThan(runs[0]?.id ?? 0);
    await holder.end();
    await done;
    await hand.end();
    await asItWas();
  });

  /** Rebuilds until the backend was terminated in this phase. */
  async function killedIn(phase: string, hold: ((table: string) => string[]) | undefined): Promise<void> {
    const { db } = fixture;
    for (let attempt = 0; attempt < 40; attempt++) {
      const looking = hold ? undefined : terminateIn(db, phase);
      const holder = hold ? await openTransaction(fixture.url, ...hold('note')) : undefined;
      const session = await openTransaction(fixture.url);
      const run = session.query(`REINDEX INDEX CONCURRENTLY ${name}`).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (holder) {
        const pid = await reindexing(phase);
        await db.query('SELECT pg_terminate_backend($1::int)', [pid]);
      }
      await looking;
      const failure = await run;
      await holder?.end();
      await session.end().catch(() => {});
      if (failure !== undefined) return expect(failure).toMatchObject({ code: '57P01' });
    }
    throw new Error(`never met the rebuild in "${phase}"`);
  }

  function reindexing(phase: string): Promise<number> {
    return eventually(
      async () => {
        const now = await builder(fixture.db);
        return now?.phase === phase && now.pid;
      },
      { timeoutMs: 30_000, intervalMs: 0, what: `the phase "${phase}"` },
    );
  }
});
