import type { Gate, Migration } from '../../catalog/migration.js';
import type { Executor } from '../../db/database.js';

/** What was measured goes on the row, unless somebody else has the migration by now. */
export async function saveGates(
  db: Executor,
  { id, state, token }: Pick<Migration, 'id' | 'state' | 'token'>,
  gates: readonly Gate[],
): Promise<void> {
  await db.query(
    `UPDATE freshvec.migration SET gates = $4::jsonb, gated_at = clock_timestamp()
     WHERE id = $1 AND state = $2 AND token IS NOT DISTINCT FROM $3::uuid`,
    [id, state, token ?? null, JSON.stringify(gates)],
  );
}
