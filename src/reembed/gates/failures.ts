import type { Gate, GateContext } from './context.js';
import type { Coverage } from './coverage.js';

/** Few enough rows have a text that the new model cannot embed. */
export async function failuresGate(
  { db, source, from, to, settings }: Pick<GateContext, 'db' | 'source' | 'from' | 'to' | 'settings'>,
  { rows, failed: byHash }: Coverage,
): Promise<Gate> {
  // Failures of the content itself have no hash: no row can be compared with them.
  const [row] = await db.query<{ content: number; before: number }>(
    `SELECT count(*) FILTER (WHERE f.hash IS NULL) AS content, count(*) FILTER (WHERE EXISTS (
         SELECT FROM freshvec.failure o WHERE o.space_id = $2 AND o.key = f.key AND o.hash IS NOT DISTINCT FROM f.hash)) AS before
     FROM freshvec.failure f WHERE f.space_id = $1 AND NOT f.discarded`,
    [to.id, from.id],
  );
  const failed = byHash + (row?.content ?? 0);
  const value = failed / Math.max(rows, failed, 1);
  const passed = value <= settings.failedShare;
  const before = row?.before ? `, ${row.before} of them under the old model too` : '';
  const advice = passed
    ? ''
    : `: \`freshvec failures list ${source.name}\` says why; \`failures retry\` or \`failures discard\` settles them`;
  return {
    name: 'failures',
    passed,
    value,
    bound: settings.failedShare,
    note: `${failed} of ${rows} rows failed${before}${advice}`,
  };
}
