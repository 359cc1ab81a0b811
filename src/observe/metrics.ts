import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Readings, SourceReading, SpendReading } from './readings.js';

/** What a drain did: vectors written, rows that cost nothing, were set aside or put back, and tokens charged. */
export interface Drained {
  readonly source: string;
  /** Fingerprint. */
  readonly model: string;
  readonly written: number;
  readonly unpaid: number;
  readonly failed: number;
  readonly delayed: number;
  readonly tokens: number;
}

/**
 * Told of what the stages do while they do it. Labels are bounded: sources, fingerprints, the kinds of provider
 * failures, accounts (a hash). No key of a row, tenant or text ever comes here. Nothing here throws or waits.
 */
export interface StageObserver {
  /** One request to a model came back with vectors. */
  embedded(batch: { readonly model: string; readonly seconds: number }): void;
  /** One request to a model failed; `failure` is an EmbedFailure. */
  providerFailed(request: { readonly model: string; readonly failure: string }): void;
  /** A provider said what is left of its limits; what it did not name stays as it was. */
  limits(left: {
    readonly model: string;
    readonly account: string;
    readonly requests?: number | undefined;
    readonly tokens?: number | undefined;
  }): void;
  /** One write is committed; `seconds` is how long it held its locks. */
  written(write: { readonly source: string; readonly seconds: number }): void;
  /** Edits became fresh, so many seconds each after the app's transaction began. */
  settled(edits: { readonly source: string; readonly lagSeconds: readonly number[] }): void;
}

export interface MetricsOptions {
  /** The sources, as the database has them. May be asked at every scrape. */
  readonly read: () => Promise<Readings>;
  /** USD that a day may cost; undefined without a cap. */
  readonly capPerDay?: number | undefined;
  /** Told when they cannot be had; the scrape goes on without. */
  readonly onError: (error: unknown) => void;
}

const EMBED_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
/** Around the 30 ms that a write may hold its locks. */
const WRITE_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 5];

/** Around the default bound of freshness, 30 s. */
const LAG_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600];

/** Codes of failures that a source has series of its own for; the rest are "other". */
const CODES = 20;
/** The same of sources with a model, by what they cost today. */
const SPENDERS = 50;
const OTHER = 'other';

/** The metrics of one process, in a registry of their own, and those of the database that it works on. */
export class Metrics implements StageObserver {
  private readonly registry = new Registry();
  private readonly rows = this.counter('rows_total', 'Rows by what became of them. A row may be delayed many times.', [
    'source',
    'outcome',
  ]);
  private readonly tokens = this.counter('tokens_total', 'Tokens that the model charged.', ['source', 'model']);
  private readonly providerErrors = this.counter('provider_errors_total', 'Requests to a model that failed.', [
    'model',
    'failure',
  ]);
  private readonly embedSeconds = this.histogram(
    'embed_batch_seconds',
    'Time of one request to a model that gave vectors.',
    ['model'],
    EMBED_SECONDS,
  );
  private readonly writeSeconds = this.histogram(
    'write_seconds',
    'Time that one write held its locks.',
    ['source'],
    WRITE_SECONDS,
  );
  private readonly lagSeconds = this.histogram(
    'lag_seconds',
    'Time from an edit to its vector, for edits of the interactive lane.',
    ['source'],
    LAG_SECONDS,
  );
  private readonly limitRemaining = this.gauge('provider_limit_remaining', 'Left of a provider limit, as it said.', [
    'account',
    'model',
    'kind',
  ]);
  private readonly databaseUp = this.gauge('database_up', '1 if the sources could be read at this scrape.', []);
  private readonly sourceReadable = this.gauge(
    'source_readable',
    '0 if this source could not be read, or not be counted in time.',
    ['source'],
  );
  private readonly sourceRows = this.gauge(
    'source_rows',
    'Eligible rows: fresh + stale + failed; leased is part of stale. Exact below 100,000 rows, else estimated.',
    ['source', 'state'],
  );
  private readonly coverage = this.gauge('coverage_ratio', 'Fresh rows of all eligible rows, 0 to 1.', ['source']);
  private readonly backlog = this.gauge(
    'backlog_changes',
    'Work that waits: changes by lane (a key may have several), keys put back for later, ranges of pages to visit.',
    ['source', 'lane'],
  );
  private readonly oldestStale = this.gauge(
    'oldest_stale_seconds',
    'Age of the oldest stale row; 0 if none is stale, +Inf if nobody recorded since when.',
    ['source'],
  );
  private readonly spendToday = this.gauge('spend_today_usd', 'Charged today (UTC), of what has a price.', [
    'source',
    'model',
  ]);
  private readonly spendCap = this.gauge('spend_cap_usd', 'What may be spent; absent without a cap.', ['per']);
  private readonly spendCapUsed = this.gauge(
    'spend_cap_used_usd',
    'What the cap is held against: charged, and reserved for requests under way.',
    ['per'],
  );
  private readonly migration = this.gauge('migration', '1 for the move to another model that is under way.', [
    'source',
    'state',
    'paused',
  ]);
  private readonly failures = this.gauge('failures', 'Failures that are on the list.', ['source', 'code']);

  constructor(private readonly options: MetricsOptions) {
    collectDefaultMetrics({ register: this.registry, prefix: 'freshvec_' });
    if (options.capPerDay !== undefined) this.spendCap.set({ per: 'day' }, options.capPerDay);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** Everything in Prometheus's text format. Those of the database are left out where it cannot be read. */
  async text(): Promise<string> {
    let readings: Readings | undefined;
    try {
      readings = await this.options.read();
    } catch (error) {
      this.options.onError(error);
    }
    this.show(readings);
    return this.registry.metrics();
  }

  /** Counts a drain that ended, well or not. */
  drained({ source, model, written, unpaid, failed, delayed, tokens }: Drained): void {
    for (const [outcome, count] of Object.entries({ written, unpaid, failed, delayed })) {
      this.rows.inc({ source, outcome }, count);
    }
    this.tokens.inc({ source, model }, tokens);
  }

  embedded({ model, seconds }: { model: string; seconds: number }): void {
    this.embedSeconds.observe({ model }, seconds);
  }

  providerFailed({ model, failure }: { model: string; failure: string }): void {
    this.providerErrors.inc({ model, failure });
  }

  limits({ account, model, requests, tokens }: Parameters<StageObserver['limits']>[0]): void {
    if (requests !== undefined) this.limitRemaining.set({ account, model, kind: 'requests' }, requests);
    if (tokens !== undefined) this.limitRemaining.set({ account, model, kind: 'tokens' }, tokens);
  }

  written({ source, seconds }: { source: string; seconds: number }): void {
    this.writeSeconds.observe({ source }, seconds);
  }

  settled({ source, lagSeconds }: { source: string; lagSeconds: readonly number[] }): void {
    for (const seconds of lagSeconds) this.lagSeconds.observe({ source }, seconds);
  }

  /** Anew each time, so that a source that was removed goes. */
  private show(readings: Readings | undefined): void {
    const { sourceReadable, sourceRows, coverage, backlog, oldestStale, failures, migration, spendToday } = this;
    const gauges = [sourceReadable, sourceRows, coverage, backlog, oldestStale, failures, migration, spendToday];
    for (const gauge of [...gauges, this.spendCapUsed]) gauge.reset();
    this.databaseUp.set(readings === undefined ? 0 : 1);
    for (const source of readings?.unreadable ?? []) sourceReadable.set({ source }, 0);
    for (const reading of readings?.sources ?? []) this.showSource(reading);
    if (readings?.spend) this.showSpend(readings.spend);
  }

  private showSpend({ rows, usd }: SpendReading): void {
    this.spendCapUsed.set({ per: 'day' }, usd);
    for (const { source, model, usd: cost } of foldSpenders(rows)) this.spendToday.set({ source, model }, cost);
  }

  private showSource({ source, counts, oldestStaleSeconds, backlog, failures, migration }: SourceReading): void {
    if (migration) this.migration.set({ source, state: migration.state, paused: String(migration.paused) }, 1);
    this.sourceReadable.set({ source }, counts === undefined ? 0 : 1);
    if (counts !== undefined) {
      for (const [state, count] of Object.entries(counts.rows)) this.sourceRows.set({ source, state }, count);
      this.coverage.set({ source }, counts.coverage);
    }
    for (const [lane, count] of Object.entries(backlog)) this.backlog.set({ source, lane }, count);
    this.oldestStale.set({ source }, oldestStaleSeconds ?? Number.POSITIVE_INFINITY);
    for (const [code, count] of foldCodes(failures)) this.failures.set({ source, code }, count);
  }

  private counter(name: string, help: string, labelNames: string[]): Counter {
    return new Counter({ name: `freshvec_${name}`, help, labelNames, registers: [this.registry] });
  }

  private gauge(name: string, help: string, labelNames: string[]): Gauge {
    return new Gauge({ name: `freshvec_${name}`, help, labelNames, registers: [this.registry] });
  }

  private histogram(name: string, help: string, labelNames: string[], buckets: number[]): Histogram {
    return new Histogram({ name: `freshvec_${name}`, help, labelNames, buckets, registers: [this.registry] });
  }
}

/** The most frequent codes, by name where as frequent, so that the same ones stay. */
function foldCodes(failures: ReadonlyMap<string, number>): Map<string, number> {
  const named = [...failures].filter(([code]) => code !== OTHER);
  named.sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
  const shown = new Map(named.slice(0, CODES));
  const rest = named.slice(CODES).reduce((sum, [, count]) => sum + count, failures.get(OTHER) ?? 0);
  return rest > 0 ? shown.set(OTHER, rest) : shown;
}

/** The dearest, by name where as dear, so that the same ones stay; a source that is none is ''. */
function foldSpenders(rows: SpendReading['rows']): { source: string; model: string; usd: number }[] {
  const sums = new Map<string, { source: string; model: string; usd: number }>();
  for (const { source, model, usd } of rows) {
    if (usd === 0) continue; // Free, or nobody knows.
    const name = JSON.stringify([source, model]);
    sums.set(name, { source: source ?? '', model, usd: (sums.get(name)?.usd ?? 0) + usd });
  }
  const dearest = [...sums].sort(([a, m], [b, n]) => n.usd - m.usd || (a < b ? -1 : 1)).map(([, sum]) => sum);
  const rest = dearest.slice(SPENDERS).reduce((sum, { usd }) => sum + usd, 0);
  return [...dearest.slice(0, SPENDERS), ...(rest > 0 ? [{ source: OTHER, model: OTHER, usd: rest }] : [])];
}
