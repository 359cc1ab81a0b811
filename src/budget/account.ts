import type { Executor } from '../db/database.js';
import type { RateLimitState } from '../embed/port.js';
import type { Spent } from './spend.js';

/** The share of an account that all workers on all hosts keep together; the statements are in migrations/0004. */

/**
 * Requests and tokens a minute that the configuration of this process allows; undefined means as many as the provider
 * does.
 */
export interface ConfiguredLimits {
  readonly requestsPerMinute?: number | undefined;
  readonly tokensPerMinute?: number | undefined;
}

/** What one request takes. */
export interface Take {
  readonly limits: ConfiguredLimits;
  readonly tokens: number;
  /** How far this request may run ahead of the limit, in s. */
  readonly burstSeconds: number;
  /** A person waits: it goes ahead and is charged, except for most requests during an outage. */
  readonly urgent: boolean;
  /** Billionths of a dollar that it costs at most, 0 where it costs nothing or nobody knows. */
  readonly nanos: number;
  /** What a day may cost in billionths of a dollar. */
  readonly capNanos: number | undefined;
  /** The space whose money it takes too. */
  readonly spaceId: number | undefined;
}

/** What may be asked for in a minute, as far as it is known. */
export interface KnownLimits {
  readonly requestsPerMinute: number | undefined;
  readonly tokensPerMinute: number | undefined;
}

/** How the account stood when a request was granted. */
export interface Moment {
  /** By the database's clock, Unix time in s. */
  readonly at: number;
  /** What more could have been asked for at once; null while the limit is not known. */
  readonly requestsSpare: number | null;
  readonly tokensSpare: number | null;
}

/** The money of the day, or of the space, is spent; `held`: or reserved for requests that may cost less. */
export type SpentUp = 'cap' | 'cap_held' | 'space_cap' | 'space_cap_held';

export type Taken = KnownLimits &
  (
    | {
        readonly granted: true;
        /** The ten minutes since 1970 in which its money was reserved. */
        readonly period: number;
        /** The first after an outage: all others wait for what becomes of it, for ten seconds at most. */
        readonly probe: boolean;
        readonly moment: Moment;
      }
    /** Nothing was taken. `why` is `budget`, a SpentUp, or what the provider said. */
    | { readonly granted: false; readonly waitMs: number; readonly why: string }
  );

type TakenRow = LimitsRow & {
  wait_ms: number;
  why: string | null;
  taken_in: number;
  probe: boolean;
  at: number;
  requests_spare: number | null;
  tokens_spare: number | null;
};

export async function takeBudget(db: Executor, account: string, take: Take): Promise<Taken> {
  const { tokens, limits: configured, burstSeconds, urgent, nanos, capNanos, spaceId } = take;
  const { requestsPerMinute, tokensPerMinute } = configured;
  const [row] = await db.query<TakenRow>('SELECT * FROM freshvec.take_budget($1, 1, $2, $3, $4, $5, $6, $7, $8, $9)', [
    account,
    tokens,
    requestsPerMinute ?? null,
    tokensPerMinute ?? null,
    burstSeconds,
    urgent,
    nanos,
    capNanos ?? null,
    spaceId ?? null,
  ]);
  if (row === undefined) throw new Error('take_budget gave no row');
  const limits = toLimits(row);
  if (row.wait_ms <= 0) {
    const moment = { at: row.at, requestsSpare: row.requests_spare, tokensSpare: row.tokens_spare };
    return { ...limits, granted: true, period: row.taken_in, probe: row.probe, moment };
  }
  return { ...limits, granted: false, waitMs: row.wait_ms, why: row.why ?? 'budget' };
}

type LimitsRow = { requests_per_minute: number | null; tokens_per_minute: number | null };

function toLimits(row: LimitsRow | undefined): KnownLimits {
  return {
    requestsPerMinute: row?.requests_per_minute ?? undefined,
    tokensPerMinute: row?.tokens_per_minute ?? undefined,
  };
}

/** What became of granted requests, against what was taken for them. */
export interface Settlement {
  /** Charged minus taken. */
  readonly tokens: number;
  readonly spent: readonly Spent[];
  readonly rateLimit?: RateLimitState | undefined;
  /** How much less the provider says is left than the request granted at that time found spare: others use the key. */
  readonly elsewhere?: { readonly at: number; readonly requests: number; readonly tokens: number } | undefined;
  /** The provider works. */
  readonly answered: boolean;
  /** The request that went ahead after an outage is over, and told nothing: somebody else may. */
  readonly probeIsOver?: boolean;
}

export async function settleBudget(
  db: Executor,
  account: string,
  limits: ConfiguredLimits,
  settlement: Settlement,
): Promise<void> {
  const { tokens, spent, rateLimit, elsewhere, answered, probeIsOver = false } = settlement;
  await db.query('SELECT freshvec.settle_budget($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12::jsonb)', [
    account,
    tokens,
    limits.requestsPerMinute ?? null,
    limits.tokensPerMinute ?? null,
    rateLimit?.limitRequests || null,
    rateLimit?.limitTokens || null,
    elsewhere?.at ?? 0,
    elsewhere?.requests ?? 0,
    elsewhere?.tokens ?? 0,
    answered,
    probeIsOver,
    JSON.stringify(spent),
  ]);
}

export interface Refusal {
  /** What the provider asked for; undefined where it named no time. */
  readonly waitMs: number | undefined;
  /** It works, but has had enough (429). */
  readonly limited: boolean;
  /** For people; never holds content. */
  readonly reason: string;
}

/** Has everybody leave the account alone for a while. */
export async function refuseBudget(db: Executor, account: string, { waitMs, limited, reason }: Refusal): Promise<void> {
  await db.query('SELECT freshvec.refuse_budget($1, $2, $3, $4)', [
    account,
    waitMs === undefined ? null : waitMs / 1000,
    limited,
    reason,
  ]);
}

/** How long the account is left alone yet, in ms; 0 when it may be asked. */
export async function accountRestMs(db: Executor, account: string): Promise<number> {
  const [row] = await db.query<{ ms: number }>(
    `SELECT extract(epoch FROM resumes_at - clock_timestamp())::float8 * 1000 AS ms FROM freshvec.account
     WHERE account = $1 AND resumes_at > clock_timestamp()`,
    [account],
  );
  return Math.max(0, row?.ms ?? 0);
}

/**
 * Has these models be asked again at once, under whatever key: by one request, since their provider wanted to be left
 * alone. Resolves to whether one of them was.
 */
export async function endRests(db: Executor, modelNames: readonly string[]): Promise<boolean> {
  const ended = await db.query(
    `UPDATE freshvec.account SET resumes_at = clock_timestamp(), probe_until = NULL, failures = GREATEST(1, failures)
     WHERE resumes_at > clock_timestamp() AND substr(account, strpos(account, ' ') + 1) = ANY($1::text[]) RETURNING account`,
    [modelNames],
  );
  return ended.length > 0;
}

/** What is known of the limits already. */
export async function knownLimits(db: Executor, account: string, limits: ConfiguredLimits): Promise<KnownLimits> {
  const [row] = await db.query<LimitsRow>(
    `SELECT coalesce(share, 1) * LEAST($2::float8, requests_limit) AS requests_per_minute,
       coalesce(share, 1) * LEAST($3::float8, tokens_limit) AS tokens_per_minute
     FROM (SELECT) one LEFT JOIN freshvec.account ON account = $1`,
    [account, limits.requestsPerMinute ?? null, limits.tokensPerMinute ?? null],
  );
  return toLimits(row);
}
