import { beforeAll, describe, expect, test } from 'vitest';
import type { Source } from '../../src/catalog/source.js';
import type { Space } from '../../src/catalog/space.js';
import { DEFAULT_GATES } from '../../src/config/config.js';
import type { Database } from '../../src/db/database.js';
import { indexUse } from '../../src/reembed/gates/index-use.js';
import { recallCurve } from '../../src/search/recall-curve.js';
import { vectorTable } from '../../src/store/table.js';
import { addSource, addSpace, embedRows, onPostgres, openServer, switchTo } from '../search/fixture.js';

const ROWS = 30_000;
/** So few that a search of 10 finds less. */
const ROWS_A_TENANT = 10;

onPostgres((database, url) => {
  describe.each<Space['store']>(['column', 'table'])('thousands of tenants, each all over the place: %s', (store) => {
    const table = `tenants_${store}`;
    let db: Database;
    let source: Source;
    let to: Space;

    beforeAll(async () => {
      db = database();
      await db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text, owner int);
        INSERT INTO ${table} SELECT i, 'body ' || i, i % ${ROWS / ROWS_A_TENANT} FROM generate_series(1, ${ROWS}) i`);
      source = await addSource(db, { table, tenantColumn: 'owner' });
      to = await addSpace(db, source, { store, metric: 'l2' });
      await switchTo(db, to);
      await embedRows(db, source, to, 'ARRAY[id, 0, 0]::real[]');
      const relation = store === 'column' ? table : vectorTable(to);
      await db.exec(`CREATE INDEX ON ${relation} USING hnsw (embedding vector_l2_ops);
        ANALYZE ${table}; ANALYZE ${relation}`);
    });

    const gateOf = async (smallRows: number) => {
      const settings = { ...DEFAULT_GATES, smallRows };
      return (await indexUse({ db, source, to, settings })).gate;
    };

    test('recall is of what a search within the tenant finds, few as its rows are', async () => {
      const address = new URL(url());
      // So little memory that an index scan gives up before it has met the tenant's rows.
      address.searchParams.set('options', '-c work_mem=64kB');
      const little = await openServer(address.href, 1);
      const { queries, points } = await recallCurve(little, source, to, [80], { sample: 10 });
      expect([queries, points[0]?.recall]).toEqual([10, 1]);
      await little.close();
    });

    test('a tenant’s only row has no neighbours to be asked for', async () => {
      await db.exec(`UPDATE ${table} SET owner = id`);
      expect((await recallCurve(db, source, to, [80], { sample: 10 })).queries).toBe(0);
      await db.exec(`UPDATE ${table} SET owner = id % ${ROWS / ROWS_A_TENANT}`);
    });

    test('the plan that counts is that of a search within a tenant', async () => {
      await db.exec(`VACUUM ANALYZE ${table}`);
      if (store === 'column') {
        const whole = await gateOf(1000);
        expect(whole).toMatchObject({ passed: false, value: 'sequential scan' });
        expect(whole.note).toMatch(/then look at random_page_cost, or index the column "owner"$/);
      }
      await db.exec(`CREATE INDEX ON ${table} (owner); ANALYZE ${table}`);
      const gate = await gateOf(ROWS_A_TENANT);
      expect(gate).toMatchObject({ passed: true, value: 'sequential scan' });
      expect(gate.note).toMatch(/as a whole, or all of a tenant, which is quicker at no more than 10 rows$/);
      expect(await gateOf(ROWS_A_TENANT - 1)).toMatchObject({ passed: false });
    });
  });
});
