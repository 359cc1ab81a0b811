import { describe, expect, test } from 'vitest';
import { MAX_ATTEMPTS } from '../../src/claim/lease.js';
import { eventually } from '../support/eventually.js';
import type { FaultyProvider } from './support/faulty.js';
import { type System, TIMEOUT_MS, withFaultyProvider } from './support/system.js';
import { sideBySide } from './support/tries.js';

const ROWS = 500;
/** Of which a claim keeps a tenth for bulk changes: the rows of one statement still make one batch. */
const BATCH_KEYS = 600;
const POISON = 'POISON';
/** Each level of the bisection has one request that is rejected. */
const MOST_REJECTED = 1 + Math.ceil(Math.log2(BATCH_KEYS));

const HEALED_BY = ['failures retry', 'an edit of the text'] as const;

describe('fault 35: one poison text in a batch of 500 [499 are written, one failure row]', () => {
  test('is found where it is rejected', { timeout: TIMEOUT_MS }, async (context) => {
    await sideBySide(context, HEALED_BY, (healedBy) =>
      withFaultyProvider(
        {
          rows: 1, // While there is none above 0 the app takes the highest.
          standin: { poison: POISON },
          env: { FRESHVEC_BATCH_KEYS: String(BATCH_KEYS), FRESHVEC_LOG_LEVEL: 'debug' },
          app: { hides: false },
        },
        async (system) => {
          const { provider, workers, app, db } = system;
          const { standin } = provider;
          await db.query(
            // Ids below 0 are out of the app's reach.
            `INSERT INTO doc (id, body) OVERRIDING SYSTEM VALUE
             SELECT -i, 'row ' || i || CASE i WHEN 217 THEN $1 ELSE '' END FROM generate_series(1, ${ROWS}) i`,
            [POISON],
          );
          await workers.start();
          await eventually(() => standin.stats().rejected > 0, { timeoutMs: 40_000, what: 'the batch to be rejected' });
          app.start();
          const failure = await eventually(() => onlyFailure(system), { timeoutMs: 40_000, what: 'a failure row' });
          await eventually(async () => (await written(system)) === ROWS - 1, {
            timeoutMs: 40_000,
            what: 'the other rows',
          });
          await system.probe();
          expect(standin.stats().rejected).toBeLessThanOrEqual(MOST_REJECTED);
          // It was a batch, and it was bisected.
          expect(standin.stats().rejected).toBeGreaterThan(5);
          expect(failure).toMatchObject({ code: 'input_rejected', message: expect.stringContaining('HTTP 400') });
          expect(failure.message).not.toContain(POISON);
          // Halves that were taken are not sent again.
          expect(provider.paidAgain()).toBe(0);
          const { failures } = (await system.cli(['failures', 'list', '--json'])).json<{ failures: unknown[] }>();
          expect(failures).toMatchObject([{ source: 'doc', code: 'input_rejected' }]);

          await heal(system, healedBy, failure.key);
          await app.stop();
          await system.assertFresh();
          expect(await written(system)).toBe(ROWS);
          expect(provider.paidAgain()).toBe(0);
          app.assertUndisturbed();
        },
      ),
    );
  });

  /** What a provider may do to one text and to no other; `paid`: its answers are charged for, however bad. */
  const FAILURES = [
    { kind: 'server_error', paid: false },
    { kind: 'all_zero', paid: true },
  ] as const;

  test('is found where the provider fails at it', { timeout: TIMEOUT_MS }, async (context) => {
    const variants = FAILURES.flatMap((failure) => HEALED_BY.map((healedBy) => ({ ...failure, healedBy })));
    await sideBySide(context, variants, ({ kind, paid, healedBy }) =>
      withFaultyProvider(
        { rows: 100, standin: { faults: [{ kind, text: POISON }] }, app: { hides: false } },
        async (system) => {
          const { provider, workers, app, db } = system;
          const { standin } = provider;
          await db.query(`INSERT INTO doc (id, body) OVERRIDING SYSTEM VALUE VALUES (-217, 'row 217 ${POISON}')`);
          app.start();
          await workers.start();
          await workers.start();
          const attempts = async () => (await db.query('SELECT FROM freshvec.lease WHERE attempts > 0')).length > 0;
          await eventually(attempts, { timeoutMs: 40_000, what: 'the text to be charged' });
          // Edits go on meanwhile, and all workers.
          await system.probe();
          const failure = await eventually(() => onlyFailure(system), { timeoutMs: 60_000, what: 'a failure row' });
          expect(failure).toMatchObject({ key: '-217', code: 'provider_failed', attempts: MAX_ATTEMPTS });
          expect(failure.message).not.toContain(POISON);
          await system.probe();
          if (!paid) expect(provider.paidAgain()).toBe(0);
          // It was no outage: nobody was made to wait for it.
          expect(await db.query('SELECT FROM freshvec.account WHERE resumes_at IS NOT NULL')).toEqual([]);
          const hits = standin.stats().faults[kind];
          await system.probe();
          expect(standin.stats().faults[kind]).toBe(hits);

          if (healedBy === 'an edit of the text')
            await db.query(`UPDATE doc SET body = 'row 217, better' WHERE id = -217`);
          else {
            standin.set({ faults: [] });
            expect((await system.cli(['failures', 'retry', 'doc', '-217', '--json'])).json()).toEqual({ retried: 1 });
          }
          const healed = async () => (await system.backlog()).failures === 0 && (await written(system)) === 1;
          await eventually(healed, { timeoutMs: 40_000, what: 'the text to be embedded' });
          await app.stop();
          await system.assertFresh();
          app.assertUndisturbed();
        },
      ),
    );
  });
});

async function heal(system: System<FaultyProvider>, by: (typeof HEALED_BY)[number], key: string): Promise<void> {
  const { db, provider } = system;
  if (by === 'an edit of the text') {
    await db.query(`UPDATE doc SET body = 'row 217, better' WHERE id = $1`, [key]);
  } else {
    const retry = async () => (await system.cli(['failures', 'retry', 'doc', key, '--json'])).json();
    // The provider has not changed its mind: the text fails again, and is still the only one.
    const before = provider.standin.stats().rejected;
    expect(await retry()).toEqual({ retried: 1 });
    await eventually(() => onlyFailure(system), { timeoutMs: 40_000, what: 'the failure row to come back' });
    expect(provider.standin.stats().rejected).toBeGreaterThan(before);
    provider.standin.set({ poison: '' });
    expect(await retry()).toEqual({ retried: 1 });
  }
  const healed = async () => (await system.backlog()).failures === 0 && (await written(system)) === ROWS;
  await eventually(healed, { timeoutMs: 40_000, what: 'the text to be embedded' });
}

type FailureRow = { key: string; code: string; message: string; attempts: number };

async function onlyFailure({ db }: Pick<System, 'db'>): Promise<FailureRow | undefined> {
  const rows = await db.query<FailureRow>('SELECT key, code, message, attempts FROM freshvec.failure');
  if (rows.length > 1) throw new Error(`${rows.length} failure rows`);
  return rows[0];
}

/** Rows of the batch that have their vector. */
async function written({ db }: Pick<System, 'db'>): Promise<number> {
  const [row] = await db.query<{ n: number }>(
    'SELECT count(*)::int AS n FROM doc WHERE id < 0 AND embedding_hash = freshvec.content_hash(body)',
  );
  return row?.n ?? 0;
}
