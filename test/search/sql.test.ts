import { describe, expect, test } from 'vitest';
import type { Metric, Space, VectorType } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { createPointerCache } from '../../src/search/pointer-cache.js';
import { search } from '../../src/search/search.js';
import { shareTableSql } from '../../src/search/share.js';
import { addSource, addSpace, embedRows, onPglite, onPostgres, openServer, switchTo } from './fixture.js';

interface SqlHit extends Record<string, unknown> {
  key: string;
  distance: number;
  stale: boolean;
  row: Record<string, unknown>;
}

function suite(database: () => Database): void {
  const ask = (name: string, model: string, vector: string, k?: number): Promise<SqlHit[]> =>
    k === undefined
      ? database().query<SqlHit>('SELECT * FROM freshvec.search($1, $2, $3)', [name, model, vector])
      : database().query<SqlHit>('SELECT * FROM freshvec.search($1, $2, $3, $4)', [name, model, vector, k]);

  async function points(table: string): Promise<void> {
    await database().exec(
      `CREATE TABLE ${table} (id bigint, "Part" text, body text, title text, x real, y real, day timestamp, PRIMARY KEY (id, "Part"));
       INSERT INTO ${table} SELECT i, 'p' || i, 'body ' || i, NULLIF('title', 'title' || i % 2), i, 0, '2024-05-06 07:08' FROM generate_series(1, 20) i`,
    );
  }

  test.each<[Space['store'], Metric, VectorType]>([
    ['column', 'cosine', 'vector'],
    ['column', 'l2', 'halfvec'],
    ['table', 'ip', 'vector'],
    ['table', 'cosine', 'halfvec'],
  ])('freshvec.search answers as the SDK does: store %s, metric %s, type %s', async (store, metric, type) => {
    const db = database();
    const table = `same_${store}_${metric}`;
    await points(table);
    const source = await addSource(db, {
      table,
      key: [
        { name: 'id', type: 'bigint' },
        { name: 'Part', type: 'text' },
      ],
      content: { columns: ['title', 'body'] },
      filter: 'id <> 4',
    });
    const space = await addSpace(db, source, { store, metric, type });
    await switchTo(db, space);
    await embedRows(db, source, space, 'ARRAY[x, y, 1]::real[]');
    await db.exec(`UPDATE ${table} SET title = 'edited' WHERE id = 3`);
    const sdk = await search(
      { db, pointers: createPointerCache(), embedQuery: async () => Float32Array.from([3, 0, 1]) },
      table,
      { text: 'x', k: 5 },
    );
    const hits = await ask(table, space.fingerprint, '[3,0,1]', 5);
    expect(hits.map(({ distance, stale }) => ({ distance, stale }))).toEqual(
      sdk.results.map(({ distance, stale }) => ({ distance, stale })),
    );
    expect(hits.map(({ row }) => row)).toEqual(sdk.results.map(({ row }) => ({ ...row, day: '2024-05-06T07:08:00' })));
    expect(JSON.parse(hits[0]?.key ?? '')).toEqual(Object.values(sdk.results[0]?.key ?? {}).map(String));
    expect(await ask(table, space.fingerprint, '[3,0,1]')).toHaveLength(10);
  });

  test('one that is retained may still be searched, none that is dropped, unknown or building', async () => {
    const db = database();
    await points('states');
    const source = await addSource(db, { table: 'states', content: { sql: `'\\ ' || body || ''''` } });
    const live = await addSpace(db, source, { model: 'fake/live' });
    const retained = await addSpace(db, source, { model: 'fake/retained', state: 'retained', column: 'former' });
    await addSpace(db, source, { model: 'fake/building', state: 'building', column: 'next' });
    await switchTo(db, live);
    await embedRows(db, source, live, 'ARRAY[x, y, 1]::real[]');
    await embedRows(db, source, retained, 'ARRAY[x, y, 1]::real[]');
    expect(await db.query(`SELECT * FROM freshvec.live('states')`)).toEqual([
      { epoch: 1, space_id: live.id, fingerprint: 'fake/live@3#1', dimensions: 3, metric: 'cosine', store: 'column' },
    ]);
    const hits = await ask('states', 'fake/live@3#1', '[1,0,1]', 1);
    expect(hits[0]).toMatchObject({ key: '1', stale: false });
    expect(Object.keys(hits[0]?.row ?? {})).toEqual(expect.arrayContaining(['id', 'Part', 'body']));
    expect(hits[0]?.row).not.toHaveProperty('former');
    expect(hits[0]?.row).not.toHaveProperty('next_model');
    expect(await ask('states', 'fake/retained@3#1', '[1,0,1]', 1)).toEqual(hits);
    await expect(ask('states', 'fake/building@3#1', '[1,0,1]')).rejects.toThrow(/neither live nor retained/);
    await expect(ask('states', 'fake/none@3#1', '[1,0,1]')).rejects.toThrow(/neither live nor retained/);
    await expect(ask('nothing', 'fake/none@3#1', '[1,0,1]')).rejects.toThrow(/no source "nothing"/);
    await expect(ask('states', 'fake/live@3#1', '[1,0]')).rejects.toThrow(/2 dimensions.*have 3/);
    await expect(ask('states', 'fake/live@3#1', '[1,0,1]', 0)).rejects.toThrow(/1 to 1000/);
    await expect(db.query(`SELECT * FROM freshvec.live('nothing')`)).rejects.toThrow(/no source "nothing"/);
  });

  test('the settings of the caller stay as they were', async () => {
    const db = database();
    await db.tx(async (tx) => {
      await tx.query(
        `SELECT set_config('hnsw.ef_search', '123', true), set_config('hnsw.scan_mem_multiplier', '1.5', true),
           set_config('timezone', 'Asia/Tokyo', true)`,
      );
      await tx.query(`SELECT * FROM freshvec.search('states', 'fake/live@3#1', '[1,0,1]', 5)`);
      const [after] = await tx.query(
        `SELECT current_setting('hnsw.ef_search') AS ef, current_setting('hnsw.iterative_scan') AS scan,
           current_setting('hnsw.max_scan_tuples') AS tuples, current_setting('hnsw.scan_mem_multiplier') AS memory,
           current_setting('timezone') AS zone`,
      );
      expect(after).toEqual({ ef: '123', scan: 'off', tuples: '20000', memory: '1.5', zone: 'Asia/Tokyo' });
    });
  });
}

onPglite(suite);
onPostgres((database, url) => {
  suite(database);

  describe.each<Space['store']>(['column', 'table'])('as a role with only SELECT on the table: store %s', (store) => {
    test('sees what the role may see, by grant and by row-level security', async () => {
      const db = database();
      const table = `guarded_${store}`;
      const role = `fv_reader_${store}_${Math.random().toString(36).slice(2, 8)}`;
      const address = new URL(url());
      address.username = role;
      address.password = 'x';
      await db.exec(
        `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, x real, y real, owner text);
         INSERT INTO ${table} SELECT i, 'body ' || i, i % 50, 0, CASE WHEN i % 2 = 0 THEN '${role}' ELSE 'someone' END FROM generate_series(1, 4000) i;
         CREATE ROLE ${role} LOGIN PASSWORD 'x'`,
      );
      const source = await addSource(db, { table, filter: 'x <> 30' });
      const space = await addSpace(db, source, { store, metric: 'l2' });
      for (const sql of space.store === 'table'
        ? [...shareTableSql(source, space), ...shareTableSql(source, space)]
        : [])
        await db.query(sql);
      await switchTo(db, space);
      await embedRows(db, source, space, 'ARRAY[x, y, 1]::real[]');
      const relation = store === 'column' ? table : `freshvec.vector_${space.id}`;
      await db.query(`CREATE INDEX ON ${relation} USING hnsw (embedding vector_l2_ops)`);
      await db.exec(`ANALYZE ${table}; ANALYZE ${relation}`);
      const reader = await openServer(address.href, 1);
      const keys = async () =>
        (
          await reader.query<SqlHit>(`SELECT * FROM freshvec.search($1, $2, '[8,0,1]', 20)`, [table, space.fingerprint])
        ).map(({ key }) => Number(key));
      try {
        await expect(keys()).rejects.toThrow(`permission denied for table ${table}`);
        await db.exec(`GRANT SELECT ON ${table} TO ${role}`);
        expect(await keys()).toHaveLength(20);
        await db.exec(
          `ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY;
           CREATE POLICY mine ON ${table} FOR SELECT USING (owner = current_user)`,
        );
        const mine = await keys();
        expect(mine).toHaveLength(20);
        expect(mine.filter((key) => key % 2 === 1)).toEqual([]);
        await expect(reader.query('SELECT * FROM freshvec.source')).rejects.toThrow(/permission denied/);
        if (store === 'table') {
          const [seen] = await reader.query(`SELECT count(*) AS n FROM ${relation}`);
          expect(seen).toEqual({ n: 1920 });
          await expect(reader.query(`DELETE FROM ${relation}`)).rejects.toThrow(/permission denied/);
        }
      } finally {
        await reader.close();
        await db.exec(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
      }
    });
  });
});
