import type { Gate } from '../../catalog/migration.js';
import { countLoadRanges } from '../../claim/pending.js';
import type { Executor } from '../../db/database.js';
import { insertLoadRanges } from '../../source/index.js';
import { shown } from '../eval/text.js';
import { MOVED, type Operation, waits } from '../operation.js';
import { move, OURS, type Ours, oursParams, recede } from '../transition.js';

/** How long until the gates are tried again, in s: they read the whole table, and some are paid for. Doubles each time. */
const AGAIN_SECONDS = { first: 15, most: 3600 };
/** Until a gate that only waits for the workers is tried again. */
const SOON_MS = 1_000;

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
  if ((await countLoadRanges(db, to.id)) > 0) {
    await db.tx((tx) => recede(tx, migration, 'pages came that were not visited yet'));
    return MOVED;
  }
  const restMs = await restOf(db, migration);
  if (restMs > 0) return waits(restMs, migration.reason ?? null);
  const gates = await context.runGates({ migration, source, from, to, signal });
  signal.throwIfAborted();
  const shut = gates.filter((gate) => !isOpen(gate, migration.accepted));
  const soon = shut.every(({ name }) => name === 'pending');
  await saveGates(db, migration, gates, { failed: !soon });
  if (shut.some(({ name }) => name === 'coverage')) {
    await db.tx(async (tx) => {
      if (!(await recede(tx, migration, 'rows were missing: they are visited again'))) return;
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

/** Ms until the gates are measured again, whichever process does so; 0 when now, as after a person's command. */
async function restOf(db: Executor, { id }: Ours): Promise<number> {
  const [row] = await db.query<{ ms: number }>(
    `SELECT 1000 * extract(epoch FROM gated_at + make_interval(secs => LEAST($2::float8 * 2 ^ (tries - 1), $3)) - clock_timestamp())::float8 AS ms
     FROM freshvec.migration WHERE id = $1 AND tries > 0`,
    [id, AGAIN_SECONDS.first, AGAIN_SECONDS.most],
  );
  return Math.max(0, row?.ms ?? 0);
}
