import { expect, test } from 'vitest';
import { searchSpace } from '../../src/search/space-search.js';
import { vectorTable } from '../../src/store/table.js';
import { addSource, addSpace, embedRows, onPostgres, switchTo } from './fixture.js';

const DIMENSIONS = 768;
const ROWS = 300;
const QUERY = Float32Array.from({ length: DIMENSIONS }, (_, i) => Math.sin(i + 1));

onPostgres((database) => {
  test('a large table of vectors, which are kept out of line, is not read as a whole', async () => {
    const db = database();
    await db.exec(`CREATE TABLE large (id bigint PRIMARY KEY, body text);
      INSERT INTO large SELECT i, 'body ' || i FROM generate_series(1, ${ROWS}) i`);
    const source = await addSource(db, { table: 'large' });
    const space = await addSpace(db, source, { store: 'table', dimensions: DIMENSIONS });
    await switchTo(db, space);
    const vector = `SELECT array_agg(sin(i * (1 + id % 97) + id)::real ORDER BY i) FROM generate_series(1, ${DIMENSIONS}) i`;
    await embedRows(db, source, space, vector);
    const vectors = vectorTable(space);
    await db.exec(`CREATE INDEX large_hnsw ON ${vectors} USING hnsw (embedding vector_cosine_ops);
      ALTER TABLE ${vectors} SET (autovacuum_enabled = off); ANALYZE large; ANALYZE ${vectors}`);
    const scans = () =>
      searchSpace(db, source, space, ({ explain }) =>
        explain({ query: QUERY, k: 10, efSearch: 80, way: 'planner' }),
      ).then((all) => all.find(({ relation }) => relation === vectors));
    const bySql = () =>
      db.tx(async (tx) => {
        await tx.query(`SELECT FROM freshvec.search('large', $1, $2::text::vector, 10)`, [
          space.fingerprint,
          JSON.stringify([...QUERY]),
        ]);
        return tx.query(`SELECT current_setting('enable_seqscan') AS seqscan,
          pg_stat_get_xact_numscans('freshvec.large_hnsw'::regclass)::int AS scans`);
      });
    expect(await scans()).toMatchObject({ node: 'Seq Scan' });
    expect(await bySql()).toEqual([{ seqscan: 'on', scans: 0 }]);
    // So many that its size would be beyond a test's time.
    await db.query('UPDATE pg_class SET reltuples = 10000 WHERE oid = $1::regclass', [vectors]);
    expect(await scans()).toMatchObject({ node: 'Index Scan', index: 'large_hnsw' });
    expect(await bySql()).toEqual([{ seqscan: 'on', scans: 1 }]);
    // With no valid index there is no other way.
    await db.exec(`UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'freshvec.large_hnsw'::regclass`);
    expect(await scans()).not.toMatchObject({ index: 'large_hnsw' });
  });
});
