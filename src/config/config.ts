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

/** What must hold before searches are switched to a new model. */
export interface GateSettings {
  /** Age of the oldest edit that waits for its vector, in s. */
  readonly pendingSeconds: number;
  /** Part of the rows that may have failed, 0 to 1. */
  readonly failedShare: number;
  /** Rows whose text is embedded once more and compared; each is paid for. */
  readonly recomputedRows: number;
  /** How like the stored vector the new one must be, 0 to 1; undefined: 0.99, of an ONNX model 0.95. */
  readonly recomputedLikeness: number | undefined;
  /** Part of the 10 nearest rows that the index must find, 0 to 1. */
  readonly recall: number;
  /** Stored vectors that the index is asked for. Each is also searched for exactly, which reads every vector. */
  readonly recallQueries: number;
  /** Candidates that an HNSW scan keeps in these measurements: what the app searches with. */
  readonly efSearch: number;
  /** Rows whose neighbours under the old and the new model are compared. */
  readonly overlapRows: number;
  /** How much lower recall@10 and nDCG@10 of labelled queries may be than the old model's, 0 to 1. */
  readonly labelledDrop: number;
  /** A table with no more rows than this may be read as a whole, if the planner likes that better than the index. */
  readonly smallRows: number;
}

export const DEFAULT_GATES: GateSettings = Object.freeze({
  pendingSeconds: 5,
  failedShare: 0.001,
  recomputedRows: 10,
  recomputedLikeness: undefined,
  recall: 0.98,
  recallQueries: 50,
  efSearch: 80,
  overlapRows: 50,
  labelledDrop: 0.02,
  smallRows: 10_000,
});

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
  readonly reembed: {
    readonly gates: GateSettings;
    /** What a build of a new space's index may take; what is undefined is left to the server. */
    readonly index: {
      /** maintenance_work_mem, such as `2GB`. */
      readonly maintenanceWorkMem: string | undefined;
      /** max_parallel_maintenance_workers. */
      readonly parallelWorkers: number | undefined;
    };
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
