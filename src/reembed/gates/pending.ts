import { countLoadRanges, oldestSinceSql } from '../../claim/pending.js';
import type { Executor } from '../../db/database.js';
import type { Gate, GateContext } from './context.js';

/** The oldest edit that waits for its vector in the new space is young: the workers keep up with both spaces. */
export async function pendingGate({
  db,
  to,
  settings,
}: {
  readonly db: Executor;
  readonly to: Pick<GateContext['to'], 'id'>;
  readonly settings: Pick<GateContext['settings'], 'pendingSeconds'>;
}): Promise<Gate> {
  const [[row], ranges] = await Promise.all([
    db.query<{ oldest: number | null }>(
      `SELECT extract(epoch FROM clock_timestamp() - ${oldestSinceSql('$1')})::float8 AS oldest`,
      [to.id],
    ),
    countLoadRanges(db, to.id),
  ]);
  const value = Math.max(0, Math.round((row?.oldest ?? 0) * 1000) / 1000);
  const late = value >= settings.pendingSeconds;
  const note =
    ranges > 0
      ? `${ranges} ranges of pages of the first load are not visited yet`
      : late
        ? 'seconds that the oldest edit waits for its vector: are workers running, and is the provider well? See `freshvec status`'
        : 'seconds that the oldest edit waits for its vector';
  return { name: 'pending', passed: !late && ranges === 0, value, bound: settings.pendingSeconds, note };
}
