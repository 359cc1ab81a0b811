import type { Gate } from '../../catalog/migration.js';
import type { Source } from '../../catalog/source.js';
import type { Executor } from '../../db/database.js';
import { insertLoadRanges } from '../../source/index.js';
import { shown } from '../eval/text.js';
import { MOVED, type Operation, waits } from '../operation.js';
import { lostGround } from '../switchable.js';
import { move, OURS, type Ours, oursParams, recede } from '../transition.js';

/** How long until the gates are tried again, in s: they read the whole table, and some are paid for. Doubles each time. */
const AGAIN_SECONDS = { first: 15, most: 3600 };
/** Until a gate that only waits for the workers is tried again. */
const SOON_MS = 1_000;

/** Rows that are missing are visited again so many times; then something keeps freshvec from hearing of edits. */
const MISSING_TIMES = 3;
const MISSING = 'rows were missing: they are visited again';

/** Passed, said to be passable, or for information only. */
function isOpen(gate: Gate, accepted: readonly string[]): boolean {
  return gate.passed || gate.advisory === true || accepted.includes(gate.name);
}

/**
 * Measures whether the new space may answer searches. Rows that are missing send it back to backfilling; any other gate
 * that does not hold keeps it here, with the reason, until it does or a person accepts it.
 */
export const verify: Operation = async (context) => {
  const { db, migration, source, from, to, signal } = context;
  const lost = await lostGround(db, source, to);
  if (lost !== undefined) {
    await db.tx((tx) => recede(tx, migration, lost));
    return MOVED;
  }
  const restMs = await restOf(db, migration);
  if (restMs > 0) return waits(restMs, migration.reason ?? null);
  const gates = await context.runGates({ migration, source, from, to, signal }).catch(async (error: unknown) => {
    signal.throwIfAborted();
    await countRound(db, migration).catch(() => {});
    throw error;
  });
  signal.throwIfAborted();
  const shut = gates.filter((gate) => !isOpen(gate, migration.accepted));
  const soon = shut.every(({ name }) => name === 'pending');
  await saveGates(db, migration, gates, { failed: !soon });
  if (shut.some(({ name }) => name === 'coverage')) {
    if ((await timesMissing(db, migration)) >= MISSING_TIMES) return { park: await whyMissing(db, source, gates) };
    await db.tx(async (tx) => {
      if (!(await recede(tx, migration, MISSING))) return;
      await insertLoadRanges(tx, source, to.id, 'load');
    });
    return MOVED;
  }
  if (shut.length > 0) {
    const reason = shut.map(
      ({ name, value, bound, note }) => `${name} is ${shown(value)}, wanted ${shown(bound)}${note ? ` (${note})` : ''}`,
    );
    return waits(soon ? SOON_MS : AGAIN_SECONDS.first * 1000, reason.join('; '));
  }
  await db.tx(async (tx) => {
    if (!(await move(tx, migration, 'ready', { what: 'every gate holds' }))) return;
    await tx.query(`UPDATE freshvec.space SET state = 'ready' WHERE id = $1 AND state = 'building'`, [to.id]);
  });
  return MOVED;
};

/** How often it went back for missing rows since a person last spoke, or altered the source. */
async function timesMissing(db: Executor, { id }: Ours): Promise<number> {
  const [row] = await db.query<{ times: number }>(
    `SELECT count(*) FILTER (WHERE what = $2) AS times FROM freshvec.migration_event e
     WHERE migration_id = $1 AND NOT EXISTS (
       SELECT FROM freshvec.migration_event l
       WHERE l.migration_id = $1 AND l.id > e.id AND l.what ~ 'by a person|was altered')`,
    [id, MISSING],
  );
  return row?.times ?? 0;
}

async function whyMissing(db: Executor, { relation }: Source, gates: readonly Gate[]): Promise<string> {
  const off = await db.query<{ name: string }>(
    `SELECT DISTINCT t.tgrelid::regclass || '.' || t.tgname AS name FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
     WHERE f.pronamespace = 'freshvec'::regnamespace AND t.tgenabled IN ('D', 'R')
       AND (t.tgrelid = $1::oid OR t.tgrelid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass))) ORDER BY 1`,
    [relation.oid],
  );
  const note = gates.find(({ name }) => name === 'coverage')?.note ?? '';
  const why =
    off.length > 0
      ? `these triggers are off: ${off.map(({ name }) => name).join(', ')}. Switch them on (ALTER TABLE … ENABLE TRIGGER)`
      : 'something writes past its triggers (session_replication_role, a restore). Have it end';
  return `each time that they were visited rows were missing again (${note}): freshvec does not hear of edits, ${why}, then \`resume\``;
}

/** What was measured goes on the row, unless somebody else has the migration by now. */
async function saveGates(
  db: Executor,
  migration: Ours,
  gates: readonly Gate[],
  { failed }: { readonly failed: boolean },
): Promise<void> {
  await db.query(
    `UPDATE freshvec.migration SET gates = $4::jsonb, gated_at = clock_timestamp(), tries = tries + $5::boolean::int WHERE ${OURS}`,
    [...oursParams(migration), JSON.stringify(gates), failed],
  );
}

/** A round that could not be brought to its end is not begun again at once: it reads the whole table. */
async function countRound(db: Executor, migration: Ours): Promise<void> {
  await db.query(
    `UPDATE freshvec.migration SET gated_at = clock_timestamp(), tries = tries + 1 WHERE ${OURS}`,
    oursParams(migration),
  );
}

/** Ms until the gates are measured again, whichever process does so; 0 when now, as after a person's command. */
async function restOf(db: Executor, { id }: Ours): Promise<number> {
  const [row] = await db.query<{ ms: number }>(
    `SELECT 1000 * extract(epoch FROM gated_at + make_interval(secs => LEAST($2::float8 * 2 ^ (tries - 1), $3)) - clock_timestamp())::float8 AS ms
     FROM freshvec.migration WHERE id = $1 AND tries > 0`,
    [id, AGAIN_SECONDS.first, AGAIN_SECONDS.most],
  );
  return Math.max(0, row?.ms ?? 0);
}
