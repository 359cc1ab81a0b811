import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { StoreKind } from '../../src/catalog/space.js';
import { createPace, LOCKS_HELD_MS } from '../../src/stages/pace.js';
import type { Store } from '../../src/store/port.js';
import { type Fixture, openFixture } from '../support/fixture.js';

/** What may happen between two looks: the app writes, workers claim and die, maintenance sweeps. */
const event = fc.oneof(
  fc.record({
    kind: fc.constant('upsert' as const),
    id: fc.integer({ min: 1, max: 12 }),
    text: fc.constantFrom('', ' ', 'a', 'b', 'c [[poison]]', 'd'),
  }),
  fc.record({ kind: fc.constant('other' as const), id: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ kind: fc.constant('rekey' as const), id: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ kind: fc.constant('delete' as const), id: fc.integer({ min: 1, max: 12 }) }),
  fc.record({ kind: fc.constant('enqueue' as const), id: fc.integer({ min: 1, max: 12 }), force: fc.boolean() }),
  fc.constant({ kind: 'work' as const }),
  fc.constant({ kind: 'claimAndDie' as const }),
  fc.constant({ kind: 'unseen' as const }),
  fc.record({ kind: fc.constant('bulk' as const), keys: fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1 }) }),
);
type Event = typeof event extends fc.Arbitrary<infer E> ? E : never;

describe.each<StoreKind>(['column', 'table'])('any history on the %s store', (kind) => {
  let fixture: Fixture;
  let store: Store;

  beforeAll(async () => {
    fixture = await openFixture();
    await fixture.db.exec('CREATE TABLE doc (id int PRIMARY KEY, body text, other int DEFAULT 0)');
    ({ store } = await fixture.add({
      table: 'doc',
      content: { columns: ['body'] },
      model: 'fake/m@8',
      store: kind,
      index: 'none',
    }));
  });
  afterAll(() => fixture.close());

  async function play(e: Event): Promise<void> {
    const { db } = fixture;
    if (e.kind === 'upsert') {
      await db.query('INSERT INTO doc (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body', [
        e.id,
        e.text,
      ]);
    } else if (e.kind === 'other') await db.query('UPDATE doc SET other = other + 1 WHERE id = $1', [e.id]);
    else if (e.kind === 'rekey')
      await db.query(
        'UPDATE doc SET id = id + 100 WHERE id = $1 AND NOT EXISTS (SELECT FROM doc WHERE id = $1 + 100)',
        [e.id],
      );
    else if (e.kind === 'delete') await db.query('DELETE FROM doc WHERE id IN ($1, $1 + 100)', [e.id]);
    else if (e.kind === 'enqueue')
      await db.query('SELECT freshvec.enqueue($1, $2, $3)', ['doc', String(e.id), e.force]);
    else if (e.kind === 'work') await fixture.work();
    else if (e.kind === 'claimAndDie') {
      // A worker that claimed and was killed; its lease has run out already, by the database's clock.
      await db.query(
        `WITH taken AS (DELETE FROM freshvec.change WHERE id IN (SELECT id FROM freshvec.change ORDER BY id LIMIT 3) RETURNING *)
         INSERT INTO freshvec.lease (space_id, key, token, expires_at, since)
         SELECT DISTINCT ON (key) space_id, key, gen_random_uuid(), now(), now() FROM taken
         ON CONFLICT (space_id, key) DO UPDATE SET again = true`,
      );
    } else if (e.kind === 'bulk') {
      // As a statement of many rows is captured.
      await db.tx(async (tx) => {
        await tx.query('ALTER TABLE doc DISABLE TRIGGER USER');
        await tx.query(`UPDATE doc SET body = body || ' bulk' WHERE id = ANY($1::int[])`, [e.keys]);
        await tx.query('ALTER TABLE doc ENABLE TRIGGER USER');
        await tx.query('INSERT INTO freshvec.change_pack (space_id, keys) VALUES ($1, $2::text[])', [
          store.space.id,
          e.keys.map(String),
        ]);
      });
    } else {
      await db.tx(async (tx) => {
        await tx.query('ALTER TABLE doc DISABLE TRIGGER USER');
        await tx.query(`UPDATE doc SET body = body || ' unseen' WHERE id IN (SELECT id FROM doc ORDER BY id LIMIT 1)`);
        await tx.query('ALTER TABLE doc ENABLE TRIGGER USER');
        await tx.query(
          `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
           VALUES ($1, 'sweep', 'doc'::regclass, pg_relation_filenode('doc'), 0, 10000)`,
          [store.space.id],
        );
      });
    }
  }

  test('ends with every vector that of its text, and nothing left behind', async () => {
    const { db } = fixture;
    await fc.assert(
      fc.asyncProperty(fc.array(event, { minLength: 1, maxLength: 14 }), async (events) => {
        await db.exec(
          'TRUNCATE doc; TRUNCATE freshvec.change, freshvec.change_pack, freshvec.lease, freshvec.range, freshvec.failure',
        );
        if (kind === 'table') await db.exec(`TRUNCATE freshvec.vector_${store.space.id}`);
        for (const e of events) await play(e);
        await fixture.work();
        const count = await db.tx((tx) => store.count(tx));
        expect(count.fresh + count.failed).toBe(count.rows);
        const [bad] = await db.query<{ n: number }>(`SELECT count(*) AS n FROM doc WHERE body LIKE '%poison%'`);
        expect(count.failed).toBe(bad?.n);
        const left = await db.query(
          `SELECT 'change' AS left FROM freshvec.change_key UNION ALL SELECT 'lease' FROM freshvec.lease
           UNION ALL SELECT 'range' FROM freshvec.range`,
        );
        expect(left).toEqual([]);
        // A row whose new text was refused keeps its old vector, and search says that it is stale.
        expect(count.vectors - count.fresh).toBeGreaterThanOrEqual(0);
        expect(count.vectors - count.fresh).toBeLessThanOrEqual(count.failed);
      }),
      { numRuns: 60 },
    );
  });
});

describe('pace', () => {
  test('keeps within its bounds, and shrinks when a write holds its locks too long', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 500 }), fc.double({ min: 0, max: 5000, noNaN: true }))),
        (writes) => {
          const pace = createPace(200);
          for (const [rows, ms] of writes) {
            const before = pace.rows();
            pace.observe(rows, ms);
            expect(pace.rows()).toBeGreaterThanOrEqual(1);
            expect(pace.rows()).toBeLessThanOrEqual(500);
            if (rows >= before && ms > LOCKS_HELD_MS * 2) expect(pace.rows()).toBeLessThanOrEqual(before);
          }
        },
      ),
    );
  });
});
