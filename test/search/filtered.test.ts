import { beforeAll, describe, expect, test } from 'vitest';
import type { Source } from '../../src/catalog/source.js';
import type { Space } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { createPointerCache } from '../../src/search/pointer-cache.js';
import type { SearchRequest } from '../../src/search/request.js';
import { search } from '../../src/search/search.js';
import { shareTableSql } from '../../src/search/share.js';
import { vectorTable } from '../../src/store/table.js';
import { instead } from '../support/instead.js';
import { addSource, addSpace, embedRows, onPostgres, openServer, switchTo } from './fixture.js';

const ROWS = 30_000;
/** Rows from here on are of the team 'far'; the distance of each row from the query is its key. */
const FAR = 28_501;
const TEN = Array.from({ length: 10 }, (_, i) => FAR + i);

/** The keys that a search finds, and how often it asked for vectors. */
async function ask(database: Database, source: string, request: SearchRequest) {
  let asked = 0;
  const db = instead(database, {
    tx: (fn) =>
      database.tx((tx) =>
        fn(
          instead(tx, {
            query: (text, params) => {
              if (text.includes('__fv_distance')) asked += 1;
              return tx.query(text, params);
            },
          }),
        ),
      ),
  });
  const deps = { db, embedQuery: async () => Float32Array.from([0, 0, 0]), pointers: createPointerCache() };
  const { results } = await search(deps, source, { text: 'x', ...request });
  return { keys: results.map(({ key }) => key), asked };
}

async function askInSql(db: Database, source: string, space: Space, k = 10): Promise<number[]> {
  const hits = await db.query<{ key: string }>(`SELECT key FROM freshvec.search($1, $2, '[0,0,0]', $3)`, [
    source,
    space.fingerprint,
    k,
  ]);
  return hits.map(({ key }) => Number(key));
}

onPostgres((database, url) => {
  describe.each<Space['store']>(['column', 'table'])(
    'the rows that match are the farthest of 30,000: store %s',
    (store) => {
      const table = `far_${store}`;
      let db: Database;
      let source: Source;
      let space: Space;
      /** So little memory that an index scan gives up after some hundred rows. */
      const limited = async <T>(fn: (db: Database) => Promise<T>, login: Partial<URL> = {}): Promise<T> => {
        const address = Object.assign(new URL(url()), login);
        address.searchParams.set('options', '-c work_mem=64kB');
        const little = await openServer(address.href, 1);
        return fn(little).finally(() => little.close());
      };

      beforeAll(async () => {
        db = database();
        await db.exec(
          `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, team text) WITH (autovacuum_enabled = false);
         INSERT INTO ${table} SELECT i, 'body ' || i, CASE WHEN i < ${FAR} THEN 'near' ELSE 'far' END
         FROM generate_series(1, ${ROWS}) i`,
        );
        source = await addSource(db, { table, tenantColumn: 'team' });
        space = await addSpace(db, source, { store, metric: 'l2' });
        await switchTo(db, space);
        const vector = 'ARRAY[id * sin(id) * cos(id * 7), id * sin(id) * sin(id * 7), id * cos(id)]::real[]';
        await embedRows(db, source, space, vector);
        const relation = store === 'column' ? table : vectorTable(space);
        await db.exec(
          `CREATE INDEX ON ${relation} USING hnsw (embedding vector_l2_ops); ANALYZE ${table}; ANALYZE ${relation}`,
        );
      });

      test.each<[string, SearchRequest]>([
        ['a filter', { where: { team: 'far' } }],
        ['a tenant', { tenant: 'far' }],
      ])('%s: the index is scanned far enough', async (_name, request) => {
        expect(await ask(db, table, request)).toEqual({ keys: TEN, asked: 1 });
      });

      test('where the index gives up, the rows that match are compared one by one', async () => {
        await limited(async (little) => {
          expect(await ask(little, table, { tenant: 'far' })).toEqual({ keys: TEN, asked: 2 });
          expect(await ask(little, table, {})).toMatchObject({ keys: { length: 10 }, asked: 1 });
        });
      });

      test('a filter that fewer than k rows pass', async () => {
        const request = { where: { team: 'far', id: { gt: ROWS - 3 } } };
        expect(await ask(db, table, request)).toEqual({ keys: [ROWS - 2, ROWS - 1, ROWS], asked: 2 });
      });

      test("freshvec.search: the source's filter", async () => {
        const filter = (sql: string | null) =>
          db.query('UPDATE freshvec.source SET filter_sql = $2 WHERE id = $1', [source.id, sql]);
        await filter(`team LIKE 'f%'`);
        try {
          expect(await askInSql(db, table, space)).toEqual(TEN);
          await limited(async (little) => expect(await askInSql(little, table, space)).toEqual(TEN));
          await filter(`team LIKE 'f%' AND id > ${ROWS - 3}`);
          expect(await askInSql(db, table, space)).toEqual([ROWS - 2, ROWS - 1, ROWS]);
        } finally {
          await filter(null);
        }
      });

      test('row-level security, in SQL and in the SDK', async () => {
        const role = `fv_far_${store}_${Math.random().toString(36).slice(2, 8)}`;
        if (store === 'table') for (const sql of shareTableSql(source, space)) await db.query(sql);
        await db.exec(
          `CREATE ROLE ${role} LOGIN PASSWORD 'x';
         GRANT SELECT ON ${table} TO ${role};
         GRANT SELECT ON ALL TABLES IN SCHEMA freshvec TO ${role};
         ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
         CREATE POLICY far ON ${table} FOR SELECT USING (team = 'far')`,
        );
        try {
          await limited(
            async (reader) => {
              expect(await askInSql(reader, table, space)).toEqual(TEN);
              expect(await ask(reader, table, {})).toEqual({ keys: TEN, asked: 2 });
            },
            { username: role, password: 'x' },
          );
        } finally {
          await db.exec(
            `DROP POLICY far ON ${table}; ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY;
           DROP OWNED BY ${role}; DROP ROLE ${role}`,
          );
        }
      });

      test('without a filter: deleted rows that no vacuum, or no worker, has seen are passed by', async () => {
        await db.exec(`DELETE FROM ${table} WHERE team = 'near'`);
        expect(await ask(db, table, {})).toEqual({ keys: TEN, asked: 1 });
        expect(await askInSql(db, table, space)).toEqual(TEN);
        if (store === 'table') {
          await limited(async (little) => {
            expect(await ask(little, table, {})).toEqual({ keys: TEN, asked: 2 });
            expect(await askInSql(little, table, space)).toEqual(TEN);
          });
        }
        await db.exec(`DELETE FROM ${table} WHERE id > ${FAR}`);
        expect(await ask(db, table, {})).toEqual({ keys: [FAR], asked: store === 'table' ? 2 : 1 });
      });
    },
  );
});
