import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { BACKGROUND_FLOOR, judge, READ_MS, type Reader } from '../reading.js';

/**
 * How long the new model's provider makes everybody wait: a pause that it asked for, an outage, or a limit that was used
 * up. Requests are held back by their budget (src/budget); slowing down leaves the slots to sources of other providers.
 */
export function provider(
  { providerWaitSeconds }: Pick<ThrottleSettings, 'providerWaitSeconds'>,
  accounts: readonly string[],
): Reader | undefined {
  if (providerWaitSeconds === null || accounts.length === 0) return undefined;
  const gauge = { name: 'provider_wait', unit: 's', bound: providerWaitSeconds };
  return {
    gauges: [gauge],
    async read(db) {
      const [worst] = await readOnly(db, READ_MS).query<{ seconds: number; paused: boolean; reason: string | null }>(
        `SELECT greatest(0, extract(epoch FROM a.resumes_at - clock_timestamp()),
             a.requests_at - extract(epoch FROM clock_timestamp()), a.tokens_at - extract(epoch FROM clock_timestamp()))::float8 AS seconds,
           coalesce(a.resumes_at > clock_timestamp(), false) AS paused, a.reason
         FROM freshvec.account a WHERE a.account = ANY($1::text[]) ORDER BY 1 DESC LIMIT 1`,
        [accounts],
      );
      const { seconds = 0, paused = false, reason = null } = worst ?? {};
      const why = paused ? (reason ?? 'the provider asked for a pause') : 'the limit per minute is used up';
      return [judge(gauge, seconds, { floor: BACKGROUND_FLOOR, why })];
    },
  };
}
