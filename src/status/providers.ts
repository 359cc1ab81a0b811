import type { Executor } from '../db/database.js';

/** An account at a provider that is left alone for now: it has had enough, or does not work. */
export interface ProviderStatus {
  /** A hash of base URL and key, in which neither can be read. */
  readonly account: string;
  /** The model's name there; each has its own limits. */
  readonly model: string;
  /** What the provider said last. */
  readonly reason: string;
  /** When it is asked again, ISO 8601; null: now, by one request, to see whether it works. */
  readonly resumesAt: string | null;
}

/** Accounts of which nothing, or one request only, may be asked at present. */
export async function restingProviders(db: Executor): Promise<ProviderStatus[]> {
  const rows = await db.query<{ account: string; reason: string | null; resumes_at: Date | null }>(
    `SELECT account, reason, CASE WHEN resumes_at > clock_timestamp() THEN resumes_at END AS resumes_at
     FROM freshvec.account WHERE resumes_at > clock_timestamp() OR failures > 0 ORDER BY account`,
  );
  return rows.map(({ account: both, reason, resumes_at }) => {
    const [account = '', ...model] = both.split(' ');
    const resumesAt = resumes_at?.toISOString() ?? null;
    return { account, model: model.join(' '), reason: reason ?? 'an outage', resumesAt };
  });
}
