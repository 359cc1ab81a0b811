import { afterAll, beforeAll, describe } from 'vitest';
import { eligibleSql, fromSource, hashSql } from '../../src/catalog/expressions.js';
import { applySchema } from '../../src/catalog/schema.js';
import { type Content, getSource, type KeyColumn, type Source } from '../../src/catalog/source.js';
import { getSpace, type Metric, type Space, type SpaceState, type VectorType } from '../../src/catalog/space.js';
import type { Database, Executor } from '../../src/db/database.js';
import { ident, qualified } from '../../src/db/identifiers.js';
import { openDatabase } from '../../src/db/open.js';
import { createSpaceSql } from '../../src/store/index.js';
import { vectorTable } from '../../src/store/table.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshEmbedded } from '../support/embedded.js';

export const BIGINT_KEY: KeyColumn[] = [{ name: 'id', type: 'bigint' }];

export interface SourceSetup {
  readonly name?: string;
  readonly schema?: string;
  readonly table: string;
  readonly key?: readonly KeyColumn[];
  readonly content?: Content;
  readonly filter?: string;
  readonly tenantColumn?: string;
}

/** Inserts the catalog row of a source on a table that is there. */
export async function addSource(db: Executor, setup: SourceSetup): Promise<Source> {
  const { schema = 'public', table, key = BIGINT_KEY, content = { columns: ['body'] }, filter, tenantColumn } = setup;
  const name = setup.name ?? table;
  await db.query(
    `INSERT INTO freshvec.source (name, relation_oid, schema_name, table_name, key_columns, key_types,
       content_columns, content_sql, base_columns, filter_sql, tenant_column)
     VALUES ($1, $2::text::regclass, $3, $4, $5, $6, $7, $8, '{}', $9, $10)`,
    [
      name,
      qualified(schema, table),
      schema,
      table,
      key.map((column) => column.name),
      key.map((column) => column.type),
      'columns' in content ? content.columns : null,
      'sql' in content ? content.sql : null,
      filter,
      tenantColumn,
    ],
  );
  return getSource(db, name);
}

export interface SpaceSetup {
  readonly model?: string;
  readonly dimensions?: number;
  readonly state?: SpaceState;
  readonly store?: Space['store'];
  readonly column?: string;
  readonly type?: VectorType;
  readonly metric?: Metric;
}

/** Makes a space, its columns or its table, without vectors. */
export async function addSpace(db: Database, source: Source, setup: SpaceSetup = {}): Promise<Space> {
  const { model = 'fake/a', dimensions = 3, state = 'live', store = 'column' } = setup;
  const { column = 'embedding', type = 'vector', metric = 'cosine' } = setup;
  const [row] = await db.query<{ id: number }>(
    `INSERT INTO freshvec.space (source_id, spec, fingerprint, dimensions, state, store, column_name, vector_type,
       metric, index_kind, m, ef_construction)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'hnsw', 16, 64) RETURNING id`,
    [source.id, `${model}@${dimensions}`, `${model}@${dimensions}#1`, dimensions, state, store, column, type, metric],
  );
  const space = await getSpace(db, row?.id ?? 0);
  if (!space) throw new Error('no space');
  const extension = await db.vectorExtension();
  for (const sql of createSpaceSql(source, space, extension?.schema ?? 'public')) await db.query(sql);
  return space;
}

/** Points the source at a space: epoch 1, then one more each time. */
export async function switchTo(db: Executor, space: Space): Promise<void> {
  await db.query(
    `INSERT INTO freshvec.pointer AS p (source_id, space_id) VALUES ($1, $2)
     ON CONFLICT (source_id) DO UPDATE SET space_id = excluded.space_id, epoch = p.epoch + 1`,
    [space.sourceId, space.id],
  );
}

/** Writes fresh vectors for all eligible rows. `vector` is SQL over the row, a text or real[] that casts to a vector. */
export async function embedRows(db: Database, source: Source, space: Space, vector: string): Promise<void> {
  const type = `${ident((await db.vectorExtension())?.schema ?? 'public')}.${space.type}`;
  const value = `(${vector})::${type}(${space.dimensions})`;
  const table = ident(source.relation.table);
  if (space.store === 'column') {
    await db.query(
      `UPDATE ${fromSource(source)} SET ${ident(space.column)} = ${value},
         ${ident(`${space.column}_hash`)} = ${hashSql(source)}, ${ident(`${space.column}_model`)} = $1
       WHERE ${eligibleSql(source)}`,
      [space.fingerprint],
    );
    return;
  }
  const keys = source.key.map(({ name }) => ident(name));
  await db.query(
    `INSERT INTO ${vectorTable(space)} (${keys.join(', ')}, chunk_no, hash, model, embedding)
     SELECT ${keys.map((name) => `${table}.${name}`).join(', ')}, 0, ${hashSql(source)}, $1, ${value}
     FROM ${fromSource(source)} WHERE ${eligibleSql(source)}
     ON CONFLICT (${keys.join(', ')}, chunk_no) DO UPDATE
       SET hash = excluded.hash, model = excluded.model, embedding = excluded.embedding`,
    [space.fingerprint],
  );
}

export function openServer(url: string, poolSize = 4): Promise<Database> {
  return openDatabase({ kind: 'postgres', url, poolSize, applicationName: 'freshvec-test', onError: () => undefined });
}

/** Runs a suite on PostgreSQL; the database has freshvec's schema. */
export function onPostgres(suite: (db: () => Database, url: () => string) => void): void {
  describe('PostgreSQL', () => {
    let database: TestDatabase;
    let db: Database;
    beforeAll(async () => {
      database = await freshDatabase();
      db = await openServer(database.url);
      await applySchema(db, { queueBackend: 'postgres' });
    });
    afterAll(async () => {
      await db.close();
      await database.drop();
    });
    suite(
      () => db,
      () => database.url,
    );
  });
}

export function onPglite(suite: (db: () => Database) => void): void {
  describe('PGlite', () => {
    let db: Database;
    beforeAll(async () => {
      db = await freshEmbedded();
      await applySchema(db, { queueBackend: 'pglite' });
    });
    afterAll(() => db.close());
    suite(() => db);
  });
}
