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
    };
    readonly fake: { readonly latencyMs: number };
    readonly requestTimeoutMs: number;
  };
  readonly worker: {
    /** Drains at a time in one process. */
    readonly slots: number;
    /** Keys claimed, read and embedded together. */
    readonly batchKeys: number;
    /** From SIGTERM to exit, at most. */
    readonly graceMs: number;
  };
  /** Ms between two runs of each maintenance service that is not left to its own default. */
  readonly maintenance: { readonly everyMs: Readonly<Partial<Record<'sweep' | 'leaves' | 'index', number>>> };
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent' };
  /** The configuration file that was read, if there was one. */
  readonly file: string | undefined;
}

export const DEFAULT_EMBEDDED_DIR = '.freshvec/db';
