import type { Gate, GateContext } from './context.js';

/** The oldest edit that waits for its vector in the new space is young: the workers keep up with both spaces. */
export async function pendingGate({ db, to, settings }: Pick<GateContext, 'db' | 'to' | 'settings'>): Promise<Gate> {
  const [row] = await db.query<{ oldest: number | null; ranges: number }>(
    `SELECT extract(epoch FROM clock_timestamp() - LEAST(
         (SELECT at FROM freshvec.change WHERE space_id = $1 AND lane = 0 ORDER BY id LIMIT 1),
         (SELECT at FROM freshvec.change WHERE space_id = $1 AND lane = 1 ORDER BY id LIMIT 1),
         (SELECT at FROM freshvec.change_pack WHERE space_id = $1 ORDER BY id LIMIT 1),
         (SELECT min(since) FROM freshvec.lease WHERE space_id = $1)))::float8 AS oldest,
       (SELECT count(*) FROM freshvec.range WHERE space_id = $1 AND purpose = 'load') AS ranges`,
    [to.id],
  );
  const value = Math.max(0, Math.round((row?.oldest ?? 0) * 1000) / 1000);
  const ranges = row?.ranges ?? 0;
  const late = value >= settings.pendingSeconds;
  const note =
    ranges > 0
      ? `${ranges} ranges of pages of the first load are not visited yet`
      : late
        ? 'seconds that the oldest edit waits for its vector: are workers running, and is the provider well? See `freshvec status`'
        : 'seconds that the oldest edit waits for its vector';
  return { name: 'pending', passed: !late && ranges === 0, value, bound: settings.pendingSeconds, note };
}
