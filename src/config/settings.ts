import { z } from 'zod';

/** What may be written in `freshvec.config.*`; flags and environment fill the same shape. Everything is optional. */

const postgresUrl = z.string().regex(/^postgres(ql)?:\/\//, 'must begin with postgres:// or postgresql://');
const redisUrl = z.string().regex(/^rediss?:\/\//, 'must begin with redis:// or rediss://');
const httpUrl = z.string().regex(/^https?:\/\//, 'must begin with http:// or https://');
const count = (most: number) => z.number().int().min(1).max(most);
const ms = z.number().int().min(0).max(86_400_000);
/** Ms between two runs of a maintenance service. */
const interval = count(7 * 86_400_000).min(100);

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
          })
          .partial(),
        fake: z.strictObject({ latencyMs: ms }).partial(),
        requestTimeoutMs: count(3_600_000),
      })
      .partial(),
    worker: z.strictObject({ slots: count(64), batchKeys: count(10_000), graceMs: ms }).partial(),
    maintenance: z
      .strictObject({
        everyMs: z.strictObject({ sweep: interval, leaves: interval, index: interval }).partial(),
      })
      .partial(),
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
