import { afterAll, beforeAll, describe, test } from 'vitest';
import { sweep } from '../../src/maintenance/sweep.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { expectFresh, type Held, MODEL, STORES } from './rows.js';
import { eachTry } from './support/tries.js';

const SHAPES = STORES.flatMap((store) => [['plain', store] as const, ['partitioned', store] as const]);

const AS_REPLICA: readonly ((table: string) => string)[] = [
  (t) => `INSERT INTO ${t} SELECT i, 'applied ' || i FROM generate_series(100, 120) i`,
  (t) => `UPDATE ${t} SET body = 'applied again ' || id WHERE id BETWEEN 95 AND 110`,
  (t) => `UPDATE ${t} SET id = id + 1000, body = 'moved' WHERE id BETWEEN 1 AND 5`,
  (t) => `UPDATE ${t} SET id = id + 2000 WHERE id BETWEEN 6 AND 10`,
  (t) => `UPDATE ${t} SET body = NULL WHERE id BETWEEN 11 AND 15`,
  (t) => `DELETE FROM ${t} WHERE id BETWEEN 16 AND 25`,
  (t) => `DELETE FROM ${t} WHERE id = 30; INSERT INTO ${t} VALUES (30, 'applied anew')`,
  (t) => `TRUNCATE ${t}; INSERT INTO ${t} SELECT i, 'after the truncate ' || i FROM generate_series(1, 40) i`,
];

/** The last leaves triggers on that are not what they were: ENABLE makes of ALWAYS and REPLICA an ordinary one. */
const SWITCHES: readonly (readonly [off: string, on: string])[] = [
  ['DISABLE TRIGGER USER', 'ENABLE TRIGGER USER'],
  ['DISABLE TRIGGER ALL', 'ENABLE TRIGGER ALL'],
];

describe('fault 25: writes under `session_replication_role = replica`; triggers disabled and enabled again [C after a sweep]', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
  });
  afterAll(() => fixture.close());

  test.for(SHAPES)('applied as a replica: %s table, store %s', async ([shape, store], context) => {
    const { db } = fixture;
    const { table, held } = await setUp(`replica_${shape}_${store}`, shape, store);
    await eachTry(
      context,
      AS_REPLICA.map((_, i) => i),
      async (i) => {
        await db.exec(`BEGIN; SET LOCAL session_replication_role = replica; ${AS_REPLICA[i]?.(table)}; COMMIT`);
        await quiet(held); // Without a sweep: a trigger of its own sees these.
      },
    );
  });

  test.for(SHAPES)('triggers off for a while: %s table, store %s', async ([shape, store], context) => {
    const { db } = fixture;
    const { table, held } = await setUp(`off_${shape}_${store}`, shape, store);
    await eachTry(context, [...AS_REPLICA.keys(), ...AS_REPLICA.keys()], async (i, attempt) => {
      const [off, on] = SWITCHES[attempt % SWITCHES.length] ?? ['', ''];
      const all = [table, ...(shape === 'plain' ? [] : [0, 1].map((n) => `${table}_${n}`))];
      const alter = (what: string) => all.map((name) => `ALTER TABLE ${name} ${what};`).join('\n');
      await db.exec(`${alter(off)} ${AS_REPLICA[i]?.(table)}; ${alter(on)}`);
      if (attempt === AS_REPLICA.length) await db.exec(`DELETE FROM ${table} WHERE id > 40`);
      if (attempt % 2 === 1) await db.exec(`UPDATE ${table} SET body = body || ', seen' WHERE id % 4 = 0`);
      await fixture.work();
      await sweep(db);
      await quiet(held);
    });
  });

  async function setUp(table: string, shape: 'plain' | 'partitioned', store: 'column' | 'table') {
    const partitioned = shape === 'partitioned';
    await fixture.db.exec(`CREATE TABLE ${table} (id bigint PRIMARY KEY, body text) ${partitioned ? 'PARTITION BY HASH (id)' : ''};
      ${partitioned ? [0, 1].map((i) => `CREATE TABLE ${table}_${i} PARTITION OF ${table} FOR VALUES WITH (MODULUS 2, REMAINDER ${i});`).join('\n') : ''}
      INSERT INTO ${table} SELECT i, 'note ' || i FROM generate_series(1, 40) i`);
    const held = await fixture.add({ table, content: { columns: ['body'] }, model: MODEL, store });
    await quiet(held);
    return { table, held };
  }

  async function quiet(held: Held): Promise<void> {
    await fixture.work();
    await expectFresh(fixture, held, { text: 'body' });
  }
});
