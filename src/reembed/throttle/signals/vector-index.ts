import type { Source } from '../../../catalog/source.js';
import { liveSpace } from '../../../catalog/space.js';
import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { indexCost } from '../../../store/index-state.js';
import { judge, READ_MS, type Reader } from '../reading.js';

/**
 * Whether the live vectors have a vector index, and with it searches that want processor and memory. No other signal tells
 * in time: a backfill at full speed takes a core, which on a small server the app feels well below any bound.
 */
export function vectorIndex(
  { indexedShare }: Pick<ThrottleSettings, 'indexedShare'>,
  source: Pick<Source, 'id' | 'relation'>,
): Reader | undefined {
  if (indexedShare === null) return undefined;
  const gauge = { name: 'vector_index', unit: 'in use', bound: 0 };
  return {
    gauges: [gauge],
    async read(db) {
      const own = readOnly(db, READ_MS);
      const live = await liveSpace(own, source.id);
      const indexed = live !== undefined && (await indexCost(own, source, live.space)) === 'each';
      const why = `searches go by the index of the live vectors: at most ${Math.round(indexedShare * 100)} % of the time (throttle.indexedShare)`;
      return [judge(gauge, indexed ? 1 : 0, { floor: { atMost: indexedShare }, why })];
    },
  };
}
