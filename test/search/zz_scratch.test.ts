import { expect, test } from 'vitest';
import { guardedStatement } from '../../src/search/guarded.js';
import { createPointerCache } from '../../src/search/pointer-cache.js';
import { search } from '../../src/search/search.js';
import { shareTableSql } from '../../src/search/share.js';
import { readTarget } from '../../src/search/target.js';
import { vectorTable } from '../../src/store/table.js';
import { addSource, addSpace, embedRows, onPglite, onPostgres, switchTo } from './fixture.js';

const D = 256;
const query = Float32Array.from({ length: D }, (_, i) => Math.sin(i + 1));
async function setup(db: any, table: string, rows: number, store: any, index: boolean, part = false) {
  await db.exec(`CREATE TABLE ${table} (id bigint, body text, team int ${part ? ', PRIMARY KEY (id)) PARTITION BY HASH (id)' : ', PRIMARY KEY (id))'};
   ${part ? `CREATE TABLE ${table}_0 PARTITION OF ${table} FOR VALUES WITH (modulus 2, remainder 0); CREATE TABLE ${table}_1 PARTITION OF ${table} FOR VALUES WITH (modulus 2, remainder 1);` : ''}
   INSERT INTO ${table} SELECT i, repeat(md5(i::text) || i || ' ', 20), i % 20 FROM generate_series(1, ${rows}) i`);
  const source = await addSource(db, { table, filter: 'team < 15' , content: {columns:['team','body']}});
  const space = await addSpace(db, source, { store, dimensions: D });
  await switchTo(db, space);
  await embedRows(db, source, space, `SELECT array_agg(sin(i * (1 + id % 97) + id)::real ORDER BY i) FROM generate_series(1, ${D}) i`);
  const rel = store === 'column' ? table : vectorTable(space);
  if (index) await db.query(`CREATE INDEX ON ${rel} USING hnsw (embedding vector_cosine_ops)`);
  await db.exec(`VACUUM ANALYZE ${table}`); await db.exec(`VACUUM ANALYZE ${rel}`);
  const deps = { db, embedQuery: async () => query, pointers: createPointerCache() };
  await search(deps, table, { text: 'x' });
  for (const req of [{ text: 'x' }, { text: 'x', where: { team: 7 } }]) {
    const times: number[] = [];
    for (let i = 0; i < 100; i++) { const t = performance.now(); await search(deps, table, req); times.push(performance.now() - t); }
    times.sort((a, b) => a - b);
    console.log(db.kind, table, rows, JSON.stringify(req), 'p50', times[50]!.toFixed(2), 'p99', times[98]!.toFixed(2));
  }
  const plan = async (extra = '') => { const target = (await readTarget(db, table))!;
  const { text, params } = guardedStatement(target, 'public', query, 10, {text:'x'});
  console.log((await db.query(`EXPLAIN (ANALYZE, VERBOSE false) ${text}`, params)).map((r: any) => r['QUERY PLAN'].slice(0, 150)).join('\n')); };
  await plan();
  return { source, space };
}
onPostgres((db) => {
  test.each([['c5', 20000, 'column', true], ['t5', 20000, 'table', true], ['cx', 20000, 'column', false], ['tx', 20000, 'table', false], ['pc', 20000, 'column', true]] as const)('%s', async (t, n, s, i) => {
    const { source, space } = await setup(db(), t, n, s, i, t === 'pc');
    if (s === 'table') for (const q of shareTableSql(source, space)) await db().query(q);
    await db().exec(`DROP ROLE IF EXISTS rr; CREATE ROLE rr; GRANT SELECT ON ${t} TO rr; ALTER TABLE ${t} ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON ${t} USING (team > 3)`);
    await db().tx(async (tx) => {
      await tx.query('SET LOCAL ROLE rr');
      const times: number[] = [];
      for (let j = 0; j < 30; j++) { const t0 = performance.now(); expect(await tx.query('SELECT * FROM freshvec.search($1,$2,$3)', [t, space.fingerprint, JSON.stringify([...query])])).toHaveLength(10); times.push(performance.now() - t0); }
      times.sort((a, b) => a - b); console.log('sql role', t, times[15]!.toFixed(2), times[29]!.toFixed(2));
    }).finally(() => db().exec('DROP OWNED BY rr; DROP ROLE rr'));
  }, 300000);
});
onPglite((db) => { test('lite', async () => { await setup(db(), 'lite', 10000, 'column', false); }, 300000); });
