import { randomUUID } from 'node:crypto';
import { afterEach, expect, test } from 'vitest';
import { getSource } from '../../src/catalog/source.js';
import type { StoreKind } from '../../src/catalog/space.js';
import { alterSource } from '../../src/source/index.js';
import { settleUnpaid } from '../../src/stages/settle-unpaid.js';
import { openStore } from '../../src/store/index.js';
import { vectorTable } from '../../src/store/table.js';
import { vectorCodec } from '../../src/store/vector-codec.js';
import { claimContext } from '../support/claim-context.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
afterEach(() => fixture.close());

/** An `alter` marks what workers hold; one may take a key just then, and read it as the source was before. */
test.each<StoreKind>(['column', 'table'])('what was read before an alter is not ticked off: %s', async (kind) => {
  fixture = await openFixture();
  const { db } = fixture;
  await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, shown boolean NOT NULL DEFAULT true);
    INSERT INTO doc VALUES (1, 'one'), (2, 'two'), (3, 'three'); UPDATE doc SET shown = id <> 2`);
  const added = {
    table: 'doc',
    content: { columns: ['body'] },
    model: 'fake/a@8',
    store: kind,
    index: 'none',
  } as const;
  const { space } = await fixture.add(added);
  const extension = await db.vectorExtension();
  if (!extension) throw new Error('no pgvector');
  const store = openStore(await getSource(db, 'doc'), space, await vectorCodec(db, extension));
  await fixture.work();
  const token = randomUUID();
  await alterSource(db, 'doc', { where: 'shown' });
  await fixture.db.query('DELETE FROM freshvec.range');
  await db.query(
    `INSERT INTO freshvec.lease (space_id, key, token, worker, expires_at, since)
     SELECT $1, key, $2::uuid, 'before', clock_timestamp() + interval '1 h', now() FROM unnest('{1,2,3}'::text[]) key`,
    [store.space.id, token],
  );
  // Of the rows as they were: all fresh, the flag of one to be lowered.
  const context = { ...claimContext(db, store, 10), writeGate: (_: unknown, act: () => unknown) => act() };
  const batch = {
    token,
    priority: 'bulk',
    items: [],
    remove: [],
    refused: [],
    losses: new Map(),
    coolDownMs: undefined,
  };
  const endings = [2, 3].map((key) => ({ key: String(key), end: 'done' as const }));
  await settleUnpaid(
    { ...context, cut: context.stop } as unknown as Parameters<typeof settleUnpaid>[0],
    { ...batch, confirm: ['1'], endings } as unknown as Parameters<typeof settleUnpaid>[1],
  );
  expect(await db.query('SELECT key, token FROM freshvec.lease ORDER BY key')).toEqual(
    ['1', '2', '3'].map((key) => ({ key, token: null })),
  );
  await fixture.work();
  expect(await db.query('SELECT FROM freshvec.lease')).toEqual([]);
  const from = kind === 'table' ? vectorTable(space) : 'doc WHERE embedding IS NOT NULL';
  expect(await db.query(`SELECT id FROM ${from} ORDER BY id`)).toEqual([{ id: 1 }, { id: 3 }]);
});
