import type { Settings } from './settings.js';

/** Environment variables as a process has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The one place that reads `process.env`; everything else is handed an Environment. */
export function processEnvironment(): Environment {
  return process.env;
}

/** Which variables fill which setting; of several the first that is set. */
export const VARIABLES = {
  'database.url': ['DATABASE_URL'],
  'database.directUrl': ['DATABASE_DIRECT_URL'],
  'database.poolSize': ['FRESHVEC_POOL_SIZE'],
  'queue.redisUrl': ['REDIS_URL'],
  'queue.backend': ['FRESHVEC_QUEUE_BACKEND'],
  'models.requestTimeoutMs': ['FRESHVEC_REQUEST_TIMEOUT_MS'],
  'models.openai.apiKey': ['OPENAI_API_KEY'],
  'models.openai.baseUrl': ['OPENAI_BASE_URL'],
  'models.openai.organization': ['OPENAI_ORGANIZATION', 'OPENAI_ORG_ID'],
  'models.openai.project': ['OPENAI_PROJECT_ID', 'OPENAI_PROJECT'],
  'models.openai.azureApiVersion': ['AZURE_OPENAI_API_VERSION', 'OPENAI_API_VERSION'],
  'models.openai.maxInputs': ['FRESHVEC_MAX_INPUTS'],
  'models.openai.maxTokensPerInput': ['FRESHVEC_MAX_TOKENS_PER_INPUT'],
  'models.openai.maxTokensPerRequest': ['FRESHVEC_MAX_TOKENS_PER_REQUEST'],
  'models.onnx.path': ['FRESHVEC_ONNX_PATH'],
  'models.fake.latencyMs': ['FRESHVEC_FAKE_LATENCY_MS'],
  'budget.requestsPerMinute': ['FRESHVEC_REQUESTS_PER_MINUTE'],
  'budget.tokensPerMinute': ['FRESHVEC_TOKENS_PER_MINUTE'],
  'spend.perDay': ['FRESHVEC_SPEND_PER_DAY'],
  'cache.maxBytes': ['FRESHVEC_CACHE_BYTES'],
  'worker.slots': ['FRESHVEC_SLOTS'],
  'worker.batchKeys': ['FRESHVEC_BATCH_KEYS'],
  'worker.graceMs': ['FRESHVEC_GRACE_MS'],
  'maintenance.window': ['FRESHVEC_MAINTENANCE_WINDOW'],
  'maintenance.timeZone': ['FRESHVEC_MAINTENANCE_TIME_ZONE'],
  'http.host': ['FRESHVEC_HTTP_HOST'],
  'http.port': ['FRESHVEC_HTTP_PORT'],
  'log.level': ['FRESHVEC_LOG_LEVEL'],
} as const;

/** The settings that the environment gives; empty variables count as not set. Values are not checked yet. */
export function fromEnvironment(env: Environment): Settings {
  const settings: Record<string, unknown> = {};
  for (const [path, names] of Object.entries(VARIABLES)) {
    const value = names.map((name) => env[name]).find((text) => text !== undefined && text.trim() !== '');
    if (value !== undefined) assign(settings, path.split('.'), isNumeric(path) ? number(value) : value.trim());
  }
  return settings as Settings;
}

/** The variables behind a setting, for messages. */
export function variablesOf(path: string): string {
  const names: readonly string[] = Object.entries(VARIABLES).find(([known]) => known === path)?.[1] ?? [];
  return names.join(' or ') || path;
}

function isNumeric(path: string): boolean {
  return /(Size|Bytes|Ms|slots|Keys|port|Inputs?|PerRequest|PerMinute|perDay)$/.test(path);
}

/** What is no number stays text, so that the check names it. */
function number(text: string): number | string {
  const value = Number(text);
  return Number.isNaN(value) ? text : value;
}

function assign(target: Record<string, unknown>, [head = '', ...rest]: string[], value: unknown): void {
  if (rest.length === 0) {
    target[head] = value;
    return;
  }
  const inner = (target[head] ?? {}) as Record<string, unknown>;
  target[head] = inner;
  assign(inner, rest, value);
}
