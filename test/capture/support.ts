import { applySchema } from '../../src/catalog/schema.js';
import type { Database, Executor } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import {
  applySource,
  type PlanModel,
  planSource,
  type SourceDefinition,
  type SourcePlan,
} from '../../src/source/index.js';
import { freshDatabase } from '../support/database.js';
import { freshEmbedded } from '../support/embedded.js';

/** A database with freshvec's schema, and what closes and drops it. */
export interface Subject {
  readonly db: Database;
  readonly url: string | undefined;
  close(): Promise<void>;
}

export const ENGINES: readonly (readonly [string, () => Promise<Subject>])[] = [
  ['PostgreSQL', openServer],
  ['PGlite', openEmbedded],
];

export async function openServer(): Promise<Subject> {
  const database = await freshDatabase();
  const db = await openDatabase({
    kind: 'postgres',
    url: database.url,
    poolSize: 4,
    applicationName: 'freshvec-test',
    onError: () => undefined,
  });
  await applySchema(db, { queueBackend: 'postgres' });
  const close = async () => {
    await db.close();
    await database.drop();
  };
  return { db, url: database.url, close };
}

async function openEmbedded(): Promise<Subject> {
  const db = await freshEmbedded();
  await applySchema(db, { queueBackend: 'pglite' });
  return { db, url: undefined, close: () => db.close() };
}

export const MODEL: PlanModel = {
  spec: 'fake/test@8',
  fingerprint: 'fake/test@8#00000000',
  dimensions: 8,
  countTokens: (text) => Math.ceil(text.length / 4),
};

/** Plans and applies. */
export async function addSource(
  db: Database,
  definition: Omit<SourceDefinition, 'model'>,
  model: PlanModel = MODEL,
): Promise<SourcePlan> {
  const plan = await planSource(db, { ...definition, model: model.spec }, model);
  await applySource(db, plan);
  return plan;
}

export interface Change {
  readonly space: number;
  readonly lane: number;
  readonly key: string;
  readonly tenant: string | null;
  readonly force: boolean | null;
}

/** Takes all changes out of the log, sorted by key. */
export async function takeChanges(db: Executor): Promise<Change[]> {
  return db.query<{ space: number; lane: number; key: string; tenant: string | null; force: boolean | null }>(
    `WITH seen AS (SELECT * FROM freshvec.change_key),
       taken AS (DELETE FROM freshvec.change), taken_packs AS (DELETE FROM freshvec.change_pack)
     SELECT space_id AS space, lane, key, tenant, force FROM seen ORDER BY key COLLATE "C", space_id`,
  );
}

/** Keys of all changes, each once for each row of the log. */
export async function takeKeys(db: Executor): Promise<string[]> {
  return (await takeChanges(db)).map(({ key }) => key);
}

/** Keys of all changes, each once: the first row that a transaction changes is written again with a second one. */
export async function takeDistinctKeys(db: Executor): Promise<string[]> {
  return [...new Set(await takeKeys(db))];
}
