/** Where work of a source waits: edits, bulk writes, keys put back for later, and ranges of pages still to be visited. */
export type BacklogLane = 'interactive' | 'bulk' | 'waiting' | 'ranges';

/** One source as the database has it. */
export interface SourceReading {
  readonly source: string;
  /** Undefined where counting took too long. `leased` is part of `stale`; coverage is fresh / (fresh + stale + failed). */
  readonly counts:
    | {
        readonly rows: Readonly<Record<'fresh' | 'stale' | 'failed' | 'leased', number>>;
        readonly coverage: number;
      }
    | undefined;
  /** 0 where nothing is stale; null where nobody recorded since when, which only counting can tell. */
  readonly oldestStaleSeconds: number | null;
  readonly backlog: Readonly<Record<BacklogLane, number>>;
  /** Failures that are on the list, by code. */
  readonly failures: ReadonlyMap<string, number>;
  /** Its move to another model that is under way. `state`: as in `reembed status`. */
  readonly migration: { readonly state: string; readonly paused: boolean } | undefined;
}

/** Money of today (UTC), in USD. */
export interface SpendReading {
  /** What was charged; a source and a model may come several times. Source null: for none. */
  readonly rows: readonly { readonly source: string | null; readonly model: string; readonly usd: number }[];
  /** What the cap is held against: charged, and reserved for requests under way. */
  readonly usd: number;
}

/** What could be read, and the names of sources that could not: there was no time, or what they stand on is gone. */
export interface Readings {
  readonly sources: readonly SourceReading[];
  readonly unreadable: readonly string[];
  /** Absent where it could not be read. */
  readonly spend?: SpendReading | undefined;
}

/** The answer of `/freshz`. */
export interface FreshnessVerdict {
  readonly status: 'fresh' | 'late';
  readonly boundSeconds: number;
  /** Sources whose oldest stale row is not younger than the bound; null: nobody knows how old it is. */
  readonly late: readonly { readonly source: string; readonly oldestStaleSeconds: number | null }[];
  readonly unreadable: readonly string[];
  /** Sources that are judged by what is on record alone. */
  readonly uncounted: readonly string[];
}

/** What cannot be shown to be within the bound is late. */
export function judgeFreshness({ sources, unreadable }: Readings, boundSeconds: number): FreshnessVerdict {
  const late = sources
    .filter(({ oldestStaleSeconds: age }) => age === null || age >= boundSeconds)
    .map(({ source, oldestStaleSeconds }) => ({ source, oldestStaleSeconds }));
  const uncounted = sources.filter(({ counts }) => counts === undefined).map(({ source }) => source);
  const status = late.length + unreadable.length === 0 ? 'fresh' : 'late';
  return { status, boundSeconds, late, unreadable, uncounted };
}
