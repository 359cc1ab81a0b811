import { z } from 'zod';
import { throttleSchema } from './throttle.js';

/** What may be written in `freshvec.config.*`; flags and environment fill the same shape. Everything is optional. */

const postgresUrl = z
  .string()
  .regex(/^postgres(ql)?:\/\//, { error: 'must begin with postgres:// or postgresql://', abort: true })
  .refine(isReadable, {
    error:
      'cannot be read as postgres://user:password@host:port/database: in user and password write # as %23, / as %2F, ' +
      '? as %3F, @ as %40, : as %3A and % as %25, and the port as a number',
  });
const redisUrl = z.string().regex(/^rediss?:\/\//, 'must begin with redis:// or rediss://');
/** What node-postgres can take apart. Behind a # everything would be left out, host and database perhaps. */
function isReadable(url: string): boolean {
  const parsed = URL.parse(url) ?? URL.parse(url.replace('@/', '@localhost/'));
  if (parsed?.hash !== '') return false;
  // Where a % is no escape at all, it is taken literally.
  if (/ |%[^a-f0-9]|%[a-f0-9][^a-f0-9]/i.test(url)) return true;
  try {
    decodeURIComponent(`${parsed.username}${parsed.password}${parsed.pathname}${parsed.host}`);
    return true;
  } catch {
    return false;
  }
}

const httpUrl = z.string().regex(/^https?:\/\//, 'must begin with http:// or https://');
const headerName = z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/, 'is no name of an HTTP header');
const headerValue = z.string().regex(/^[\t\x20-\x7e]*$/, 'may hold ASCII characters only');
const count = (most: number) => z.number().int().min(1).max(most);
const ms = z.number().int().min(0).max(86_400_000);
/** Ms between two runs of a maintenance service. */
const interval = count(7 * 86_400_000).min(100);
const share = z.number().min(0).max(1);

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}

export const settingsSchema = z
  .strictObject({
    database: z
      .strictObject({
        url: postgresUrl,
        /** Where `url` is a pooler: the server itself, for LISTEN and CREATE INDEX CONCURRENTLY. */
        directUrl: postgresUrl,
        /** The embedded database: true for `.freshvec/db`, or its directory. */
        embedded: z.union([z.boolean(), z.string().min(1)]),
        poolSize: count(1000),
      })
      .partial(),
    queue: z.strictObject({ backend: z.enum(['redis', 'postgres', 'pglite']), redisUrl }).partial(),
    models: z
      .strictObject({
        openai: z
          .strictObject({
            apiKey: z.string().min(1),
            baseUrl: httpUrl,
            organization: z.string().min(1),
            project: z.string().min(1),
            azureApiVersion: z.string().min(1),
            headers: z.record(headerName, headerValue),
            maxInputs: count(100_000),
            maxTokensPerInput: count(10_000_000),
            maxTokensPerRequest: count(100_000_000),
          })
          .partial(),
        onnx: z
          .strictObject({
            path: z.string().min(1),
            dtype: z.enum(['fp32', 'fp16', 'q8', 'int8', 'uint8', 'q4', 'q4f16', 'bnb4']),
            pooling: z.enum(['mean', 'cls', 'last_token']),
            normalise: z.boolean(),
            queryPrefix: z.string(),
            documentPrefix: z.string(),
            threads: count(256),
            allowDownload: z.boolean(),
          })
          .partial(),
        fake: z.strictObject({ latencyMs: ms }).partial(),
        requestTimeoutMs: count(3_600_000),
      })
      .partial(),
    /** Per minute, of each account at a provider; without, what the provider allows. */
    budget: z.strictObject({ requestsPerMinute: count(1e9), tokensPerMinute: count(1e12) }).partial(),
    /** USD. */
    spend: z.strictObject({ perDay: z.number().min(0) }).partial(),
    /** USD per million tokens by model: `openai/NAME` or `openai/NAME@DIMENSIONS`. */
    prices: z.record(z.string(), z.number().min(0)),
    /** Bytes that cached vectors may take in the database; 0: no cache, and what is in it is deleted. */
    cache: z
      .strictObject({
        maxBytes: z
          .number()
          .int()
          .min(0)
          .refine((bytes) => bytes === 0 || bytes >= 1_000_000, 'must be 0 (no cache) or at least 1000000 bytes'),
      })
      .partial(),
    worker: z.strictObject({ slots: count(64), batchKeys: count(10_000), graceMs: ms }).partial(),
    maintenance: z
      .strictObject({
        everyMs: z
          .strictObject({
            sweep: interval,
            leaves: interval,
            index: interval,
            cache: interval,
            analyze: interval,
            vacuum: interval,
            reindex: interval,
          })
          .partial(),
        /** When heavy services may begin: `22:00-06:00`. Without, at any time. */
        window: z
          .string()
          .regex(/^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$/, 'must be like 22:00-06:00')
          .refine(
            (text) => text.slice(0, 5) !== text.slice(6),
            'must not end when it begins; leave it away for always',
          ),
        /** Of the window: a name such as `Europe/Berlin`; UTC unless told. */
        timeZone: z.string().refine(isTimeZone, 'is no time zone such as Europe/Berlin or UTC'),
        /** How long a heavy service waits for a lock, or for a transaction that is in its way. */
        lockTimeoutMs: count(86_400_000),
        /** A vector index this many times as large as it need be is built again. */
        bloatRatio: z.number().min(1.1).max(100),
        /** A vector index that finds a smaller share of the nearest 10 than this, and once found more, is built again. */
        recallTarget: z.number().min(0).max(1),
      })
      .partial(),
    reembed: z
      .strictObject({
        /** What a build of a new space's index may take. */
        index: z
          .strictObject({
            maintenanceWorkMem: z.string().regex(/^\d+\s*(kB|MB|GB|TB)$/, 'a size is needed, such as 2GB'),
            parallelWorkers: z.number().int().min(0).max(64),
          })
          .partial(),
        /** What must hold before searches are switched to a new model. */
        gates: z
          .strictObject({
            /** Age of the oldest edit that waits for its vector. */
            pendingSeconds: z.number().positive().max(86_400),
            /** Part of the rows that may have failed. */
            failedShare: share,
            /** Rows whose text is embedded once more and compared; each is paid for. */
            recomputedRows: count(1000),
            /** How like the stored vector the new one must be; 0.99 unless told, of an ONNX model 0.95. */
            recomputedLikeness: share,
            /** Part of the 10 nearest rows that the index must find. */
            recall: share,
            /** Stored vectors that the index is asked for. */
            recallQueries: count(10_000),
            /** hnsw.ef_search: what the app searches with. */
            efSearch: count(1000).min(11),
            /** Rows whose neighbours under the old and the new model are compared. */
            overlapRows: count(10_000),
            /** How much lower recall@10 and nDCG@10 of labelled queries may be than the old model's. */
            labelledDrop: share,
            /** Rows that the planner may read as a whole in place of the index. */
            smallRows: z.number().int().min(0).max(1_000_000_000),
          })
          .partial(),
      })
      .partial(),
    http: z.strictObject({ host: z.string().min(1), port: z.number().int().min(0).max(65_535) }).partial(),
    throttle: throttleSchema,
    freshness: z.strictObject({ boundSeconds: z.number().positive().max(31_536_000) }).partial(),
    log: z.strictObject({ level: z.enum(['debug', 'info', 'warn', 'error', 'silent']) }).partial(),
  })
  .partial();

/** Type of the default export of a `freshvec.config` file. */
export type Settings = z.infer<typeof settingsSchema>;

/** The keys that are known at a path, for "did you mean". */
export function knownKeys(path: readonly PropertyKey[]): string[] {
  let node: unknown = settingsSchema;
  for (const key of path) node = node instanceof z.ZodObject ? unwrap(node.shape[String(key)]) : undefined;
  return node instanceof z.ZodObject ? Object.keys(node.shape) : [];
}

function unwrap(node: unknown): unknown {
  return node instanceof z.ZodOptional ? node.unwrap() : node;
}
