import pg from 'pg';
import { expect } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { eventually } from '../support/eventually.js';
import type { Fixture } from '../support/fixture.js';
import { type Held, MODEL } from './rows.js';

/**
 * A source whose rows have vectors already, so that its index takes a moment to build: no vector is asked for. The rest
 * of its rows want none: they are there to be scanned.
 */
export async function filledSource(
  { db, add }: Fixture,
  {
    table,
    rows,
    partitions = 0,
    store = 'column',
  }: { table: string; rows: number; partitions?: number; store?: StoreKind },
): Promise<Held> {
  await db.exec(
    `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text) ${partitions > 0 ? 'PARTITION BY HASH (id)' : ''}`,
  );
  for (let i = 0; i < partitions; i++) {
    await db.exec(
      `CREATE TABLE ${table}_${i} PARTITION OF ${table} FOR VALUES WITH (MODULUS ${partitions}, REMAINDER ${i})`,
    );
  }
  const held = await add({ table, content: { columns: ['body'] }, model: MODEL, store });
  const { id, fingerprint } = held.space;
  const vectors = `SELECT i AS id, 'note ' || i AS body, md5('note ' || i)::uuid AS hash,
      ARRAY[sin(i), cos(i), sin(2 * i), cos(3 * i), sin(5 * i), cos(7 * i), sin(11 * i), cos(13 * i)]::vector AS vector
    FROM generate_series(1, ${rows}) i`;
  await db.exec(
    store === 'column'
      ? `INSERT INTO ${table} (id, body, embedding, embedding_model, embedding_hash, embedding_stale)
         SELECT id, body, vector, '${fingerprint}', hash, false FROM (${vectors}) v`
      : `WITH v AS (${vectors}), r AS (INSERT INTO ${table} SELECT id, body FROM v)
         INSERT INTO freshvec.vector_${id} (id, hash, model, embedding) SELECT id, hash, '${fingerprint}', vector FROM v`,
  );
  await db.exec(
    ['change', 'change_pack', 'range'].map((name) => `DELETE FROM freshvec.${name} WHERE space_id = ${id}`).join('; '),
  );
  return held;
}

export interface IndexFound {
  readonly name: string;
  readonly valid: boolean;
}

/** Vector indexes in the whole database, whoever made them. */
export async function vectorIndexes(db: Database): Promise<IndexFound[]> {
  return db.query<{ name: string; valid: boolean }>(
    `SELECT c.relname AS name, i.indisvalid AND i.indisready AND i.indislive AS valid
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
     WHERE a.amname = 'hnsw' ORDER BY 1`,
  );
}

/** Invariant O: all that is there is what should be, and it serves: the planner answers a search by it. */
export async function expectIndexes(db: Database, names: readonly string[], invalid: readonly string[] = []) {
  const found = await vectorIndexes(db);
  const should = [...names.map((name) => ({ name, valid: true })), ...invalid.map((name) => ({ name, valid: false }))];
  expect(found).toEqual(should.sort((a, b) => (a.name < b.name ? -1 : 1)));
}

/** The backend that builds an index just now, and how far it is. */
export async function builder(db: Database): Promise<{ pid: number; phase: string } | undefined> {
  const [row] = await db.query<{ pid: number; phase: string }>(
    `SELECT pid, phase FROM pg_stat_progress_create_index WHERE datname = current_database()`,
  );
  return row;
}

/** An open transaction on a connection of its own. */
export async function openTransaction(url: string, ...statements: string[]) {
  const client = new pg.Client({ connectionString: url, application_name: 'holder' });
  client.on('error', () => {});
  await client.connect();
  for (const statement of statements) await client.query(statement);
  const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  return { pid: rows[0]?.pid ?? 0, query: (sql: string) => client.query(sql), end: () => client.end() };
}

/** Resolves when the build is in this phase; false when it was over before. */
export async function reached(db: Database, phase: string, over: () => boolean): Promise<number | false> {
  let pid: number | undefined;
  await eventually(
    async () => {
      const now = await builder(db);
      if (now?.phase === phase) pid = now.pid;
      return pid !== undefined || over();
    },
    { timeoutMs: 30_000, intervalMs: 0, what: `the phase "${phase}"` },
  );
  return pid ?? false;
}

/**
 * Terminates the build of this database in a phase that may last a millisecond, by a server-side loop. Resolves when it
 * did, when the build is past it, or when there was none for a while. To be called before the build begins.
 */
export function terminateIn(db: Database, phase: string): Promise<void> {
  return db.exec(`DO $$
    DECLARE
      build record;
      seen boolean := false;
      until timestamptz := clock_timestamp() + interval '10 seconds';
    BEGIN
      LOOP
        PERFORM pg_stat_clear_snapshot();
        SELECT pid, p.phase INTO build FROM pg_stat_progress_create_index p WHERE datname = current_database();
        IF build.phase = '${phase}' THEN
          PERFORM pg_terminate_backend(build.pid);
          EXIT;
        END IF;
        -- This loop has a snapshot itself, for which the build would wait.
        EXIT WHEN build.phase = 'waiting for old snapshots' OR (seen AND build.pid IS NULL) OR clock_timestamp() > until;
        seen := seen OR build.pid IS NOT NULL;
      END LOOP;
    END $$`);
}
