import { resolve } from 'node:path';
import { type Config, type DatabaseConfig, DEFAULT_EMBEDDED_DIR, DEFAULT_GATES, type QueueConfig } from './config.js';
import { type Environment, fromEnvironment, processEnvironment, variablesOf } from './environment.js';
import { ConfigError, invalidSettings } from './errors.js';
import { readSettingsFile } from './file.js';
import { type Settings, settingsSchema } from './settings.js';
import { THROTTLE_DEFAULTS, type ThrottleSettings } from './throttle.js';

export interface LoadOptions {
  /** Where a `freshvec.config` file is looked for, and what an embedded directory is relative to. */
  readonly cwd?: string | undefined;
  readonly env?: Environment | undefined;
  /** Settings that win over everything else: a command's flags, or `createClient`'s options. */
  readonly flags?: Settings | undefined;
  /** Configuration file to read in place of `freshvec.config.*`; false for none. */
  readonly file?: string | false | undefined;
}

const DEFAULTS = {
  slots: 3,
  batchKeys: 200,
  graceMs: 20_000,
  requestTimeoutMs: 30_000,
  httpHost: '127.0.0.1',
  boundSeconds: 30,
  timeZone: 'UTC',
  lockTimeoutMs: 600_000,
  bloatRatio: 1.5,
  recallTarget: 0.95,
} as const;

/** Flags before environment before file before defaults. Throws ConfigError. */
export async function loadConfig(options: LoadOptions = {}): Promise<Config> {
  const { cwd = process.cwd(), env = processEnvironment(), flags = {}, file: named } = options;
  const fromFile = named === false ? { settings: {}, file: undefined } : await readSettingsFile(cwd, named);
  const layers = [
    check(flags, 'What was given on the command line or to createClient', (path) => path),
    check(fromEnvironment(env), 'The environment', variablesOf),
    fromFile.settings,
  ];
  const database = chooseDatabase(layers, cwd);
  return deepFreeze({
    database,
    queue: chooseQueue(layers, database),
    models: {
      openai: {
        apiKey: first(layers, (s) => s.models?.openai?.apiKey),
        baseUrl: first(layers, (s) => s.models?.openai?.baseUrl),
        organization: first(layers, (s) => s.models?.openai?.organization),
        project: first(layers, (s) => s.models?.openai?.project),
        azureApiVersion: first(layers, (s) => s.models?.openai?.azureApiVersion),
        headers: first(layers, (s) => s.models?.openai?.headers),
        maxInputs: first(layers, (s) => s.models?.openai?.maxInputs),
        maxTokensPerInput: first(layers, (s) => s.models?.openai?.maxTokensPerInput),
        maxTokensPerRequest: first(layers, (s) => s.models?.openai?.maxTokensPerRequest),
      },
      onnx: onnxOf(layers, cwd),
      fake: { latencyMs: first(layers, (s) => s.models?.fake?.latencyMs) ?? 0 },
      requestTimeoutMs: first(layers, (s) => s.models?.requestTimeoutMs) ?? DEFAULTS.requestTimeoutMs,
    },
    budget: {
      requestsPerMinute: first(layers, (s) => s.budget?.requestsPerMinute),
      tokensPerMinute: first(layers, (s) => s.budget?.tokensPerMinute),
    },
    spend: { perDay: first(layers, (s) => s.spend?.perDay) },
    prices: Object.assign({}, ...layers.map((s) => s.prices ?? {}).reverse()),
    cache: { maxBytes: first(layers, (s) => s.cache?.maxBytes) ?? 0 },
    worker: {
      slots: slotsOf(layers),
      batchKeys: first(layers, (s) => s.worker?.batchKeys) ?? DEFAULTS.batchKeys,
      graceMs: first(layers, (s) => s.worker?.graceMs) ?? DEFAULTS.graceMs,
    },
    maintenance: {
      everyMs: Object.assign({}, ...layers.map((s) => s.maintenance?.everyMs ?? {}).reverse()),
      window: first(layers, (s) => s.maintenance?.window),
      timeZone: first(layers, (s) => s.maintenance?.timeZone) ?? DEFAULTS.timeZone,
      lockTimeoutMs: first(layers, (s) => s.maintenance?.lockTimeoutMs) ?? DEFAULTS.lockTimeoutMs,
      bloatRatio: first(layers, (s) => s.maintenance?.bloatRatio) ?? DEFAULTS.bloatRatio,
      recallTarget: first(layers, (s) => s.maintenance?.recallTarget) ?? DEFAULTS.recallTarget,
    },
    reembed: {
      gates: Object.assign({}, DEFAULT_GATES, ...layers.map((s) => s.reembed?.gates ?? {}).reverse()),
      index: {
        maintenanceWorkMem: first(layers, (s) => s.reembed?.index?.maintenanceWorkMem),
        parallelWorkers: first(layers, (s) => s.reembed?.index?.parallelWorkers),
      },
    },
    http: {
      host: first(layers, (s) => s.http?.host) ?? DEFAULTS.httpHost,
      port: first(layers, (s) => s.http?.port) ?? 0,
    },
    throttle: throttleOf(layers, cwd),
    freshness: { boundSeconds: first(layers, (s) => s.freshness?.boundSeconds) ?? DEFAULTS.boundSeconds },
    log: { level: first(layers, (s) => s.log?.level) ?? 'info' },
    file: fromFile.file,
  });
}

/** The database, or ConfigError `database_missing` with what to do. */
export function requireDatabase(config: Config): DatabaseConfig {
  if (config.database) return config.database;
  throw new ConfigError(
    'database_missing',
    'No database is named: set DATABASE_URL (or --database-url, or database.url in freshvec.config), ' +
      'or say --embedded for a database of your own in .freshvec/db.',
  );
}

/**
 * The strongest layer that names a database decides between a server and the embedded one; `embedded: false` rules that out
 * for weaker ones too.
 */
function chooseDatabase(layers: readonly Settings[], cwd: string): DatabaseConfig | undefined {
  let barred = false;
  for (const [i, { database }] of layers.entries()) {
    barred ||= database?.embedded === false;
    const embedded = barred ? undefined : database?.embedded || undefined;
    if (embedded !== undefined && database?.url !== undefined) {
      throw new ConfigError('config_invalid', 'A database URL and --embedded were both given: choose one of them.');
    }
    if (embedded !== undefined) {
      return { kind: 'pglite', dataDir: resolve(cwd, embedded === true ? DEFAULT_EMBEDDED_DIR : embedded) };
    }
    if (database?.url === undefined) continue;
    // A weaker layer's goes with a weaker layer's URL: another database perhaps.
    const directUrl = first(layers.slice(0, i + 1), (s) => s.database?.directUrl);
    // A slot claims while it writes; the rest is for the doorbell, renewals and the odd question.
    const poolSize = first(layers, (s) => s.database?.poolSize) ?? 2 * slotsOf(layers) + 4;
    return { kind: 'postgres', url: database.url, directUrl, poolSize };
  }
  return undefined;
}

function chooseQueue(layers: readonly Settings[], database: DatabaseConfig | undefined): QueueConfig {
  const redisUrl = first(layers, (s) => s.queue?.redisUrl);
  const embedded = database?.kind === 'pglite';
  const unset = redisUrl === undefined ? 'postgres' : 'redis';
  const backend = first(layers, (s) => s.queue?.backend) ?? (embedded ? 'pglite' : unset);
  if (backend === 'redis') {
    if (redisUrl === undefined)
      throw new ConfigError('config_invalid', 'The queue backend is redis, but REDIS_URL is not set.');
    return { backend, redisUrl };
  }
  if (database && (backend === 'pglite') !== embedded) {
    throw new ConfigError(
      'config_invalid',
      `The queue backend ${backend} does not go with ${embedded ? 'the embedded database' : 'a PostgreSQL server'}: ` +
        `choose ${embedded ? 'pglite' : 'redis or postgres'}, or leave queue.backend away.`,
    );
  }
  return { backend };
}

function onnxOf(layers: readonly Settings[], cwd: string): Config['models']['onnx'] {
  const path = first(layers, (s) => s.models?.onnx?.path);
  return {
    path: path === undefined ? undefined : resolve(cwd, path),
    dtype: first(layers, (s) => s.models?.onnx?.dtype),
    pooling: first(layers, (s) => s.models?.onnx?.pooling),
    normalise: first(layers, (s) => s.models?.onnx?.normalise),
    queryPrefix: first(layers, (s) => s.models?.onnx?.queryPrefix),
    documentPrefix: first(layers, (s) => s.models?.onnx?.documentPrefix),
    threads: first(layers, (s) => s.models?.onnx?.threads),
    allowDownload: first(layers, (s) => s.models?.onnx?.allowDownload),
  };
}

function throttleOf(layers: readonly Settings[], cwd: string): ThrottleSettings {
  const set = layers.map((s) => Object.entries(s.throttle ?? {}).filter(([, value]) => value !== undefined));
  const { diskPath, ...rest }: ThrottleSettings = Object.assign(
    {},
    THROTTLE_DEFAULTS,
    ...set.reverse().map((entries) => Object.fromEntries(entries)),
  );
  return { ...rest, diskPath: diskPath === null ? null : resolve(cwd, diskPath) };
}

function slotsOf(layers: readonly Settings[]): number {
  return first(layers, (s) => s.worker?.slots) ?? DEFAULTS.slots;
}

function check(settings: Settings, where: string, label: (path: string) => string): Settings {
  const parsed = settingsSchema.safeParse(settings);
  if (!parsed.success) throw invalidSettings(parsed.error, where, label);
  return parsed.data;
}

function first<T>(layers: readonly Settings[], read: (settings: Settings) => T | undefined): T | undefined {
  for (const layer of layers) {
    const value = read(layer);
    if (value !== undefined) return value;
  }
  return undefined;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) for (const inner of Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
