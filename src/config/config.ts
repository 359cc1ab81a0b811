import type { ThrottleSettings } from './throttle.js';

/** Where the database is, as the configuration says it. */
export type DatabaseConfig =
  | {
      readonly kind: 'postgres';
      readonly url: string;
      readonly directUrl: string | undefined;
      readonly poolSize: number;
    }
  | { readonly kind: 'pglite'; readonly dataDir: string };

export type QueueConfig =
  | { readonly backend: 'redis'; readonly redisUrl: string }
  | { readonly backend: 'postgres' }
  | { readonly backend: 'pglite' };

/** Maintenance that runs by the clock. */
export type ScheduledService = 'sweep' | 'leaves' | 'index' | 'cache' | 'analyze' | 'vacuum' | 'reindex';

/** Everything that can be configured: parsed once, checked, frozen, and passed on. */
export interface Config {
  /** Undefined where none was named: nothing is ever chosen silently. `requireDatabase` says so. */
  readonly database: DatabaseConfig | undefined;
  readonly queue: QueueConfig;
  readonly models: {
    readonly openai: {
      readonly apiKey: string | undefined;
      readonly baseUrl: string | undefined;
      readonly organization: string | undefined;
      readonly project: string | undefined;
      readonly azureApiVersion: string | undefined;
      readonly headers: Readonly<Record<string, string>> | undefined;
      readonly maxInputs: number | undefined;
      readonly maxTokensPerInput: number | undefined;
      readonly maxTokensPerRequest: number | undefined;
    };
    readonly onnx: {
      /** Absolute. */
      readonly path: string | undefined;
      readonly dtype: 'fp32' | 'fp16' | 'q8' | 'int8' | 'uint8' | 'q4' | 'q4f16' | 'bnb4' | undefined;
      readonly pooling: 'mean' | 'cls' | 'last_token' | undefined;
      readonly normalise: boolean | undefined;
      readonly queryPrefix: string | undefined;
      readonly documentPrefix: string | undefined;
      readonly threads: number | undefined;
      readonly allowDownload: boolean | undefined;
    };
    readonly fake: { readonly latencyMs: number };
    readonly requestTimeoutMs: number;
  };
  /** Per minute, of each account at a provider. */
  readonly budget: { readonly requestsPerMinute: number | undefined; readonly tokensPerMinute: number | undefined };
  /** USD that a day may cost. */
  readonly spend: { readonly perDay: number | undefined };
  /** USD per million tokens by model, with or without its dimensions. */
  readonly prices: Readonly<Record<string, number>>;
  /** Bytes that cached vectors may take in the database; 0: no cache, and what is in it is deleted. */
  readonly cache: { readonly maxBytes: number };
  readonly worker: {
    /** Drains at a time in one process. */
    readonly slots: number;
    /** Keys claimed, read and embedded together. */
    readonly batchKeys: number;
    /** From SIGTERM to exit, at most. */
    readonly graceMs: number;
  };
  readonly maintenance: {
    /** Ms between two runs of each service that is not left to its own default. */
    readonly everyMs: Readonly<Partial<Record<ScheduledService, number>>>;
    /** When heavy services may begin, `22:00-06:00`; undefined: at any time. */
    readonly window: string | undefined;
    /** Of the window. */
    readonly timeZone: string;
    readonly lockTimeoutMs: number;
    readonly bloatRatio: number;
    readonly recallTarget: number;
  };
  /** Where a worker process answers for its metrics and health; port 0: nowhere. */
  readonly http: { readonly host: string; readonly port: number };
  /** What a re-embedding slows down for. */
  readonly throttle: ThrottleSettings;
  /** A source is late once its oldest stale row is older than this. */
  readonly freshness: { readonly boundSeconds: number };
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent' };
  /** The configuration file that was read, if there was one. */
  readonly file: string | undefined;
}

export const DEFAULT_EMBEDDED_DIR = '.freshvec/db';
