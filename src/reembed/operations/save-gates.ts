import type { Gate } from '../../catalog/migration.js';
import type { Executor } from '../../db/database.js';

export async function saveGates(db: Executor, migrationId: number, gates: readonly Gate[]): Promise<void> {
  await db.query(`UPDATE freshvec.migration SET gates = $2::jsonb, gated_at = clock_timestamp() WHERE id = $1`, [
    migrationId,
    JSON.stringify(gates),
  ]);
}
