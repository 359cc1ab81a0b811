import { afterAll, beforeAll, describe } from 'vitest';
import { createGates, type Gates } from '../../src/budget/gates.js';
import type { LabelledQuery, Migration } from '../../src/catalog/migration.js';
import type { Source } from '../../src/catalog/source.js';
import { getSpace, type Space, type StoreKind } from '../../src/catalog/space.js';
import { DEFAULT_GATES, type GateSettings } from '../../src/config/config.js';
import type { GateContext } from '../../src/reembed/gates/context.js';
import { insertLoadRanges } from '../../src/source/index.js';
import { ensureIndex } from '../../src/store/build-index.js';
import { addSpace } from '../search/fixture.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';

const WHO = [
  'the harbour',
  'a teacher',
  'our bakery',
  'the observatory',
  'a violinist',
  'the tax office',
  'a gardener',
];
const DOES = ['repairs', 'explains', 'sells', 'measures', 'plays', 'refuses', 'waters', 'paints', 'ships', 'counts'];
const WHAT = ['old boats', 'algebra', 'rye bread', 'distant stars', 'a slow waltz', 'late forms', 'tomatoes', 'doors'];
const WHEN = ['at dawn', 'in winter', 'on Mondays', 'after the storm', 'every week', 'without notice', 'by hand'];

/** Texts that differ from one another, the same ones each time. */
export function textOf(i: number): string {
  const pick = (words: readonly string[], step: number) => words[Math.floor(i / step) % words.length];
  return `Note ${i}: ${pick(WHO, 1)} ${pick(DOES, 7)} ${pick(WHAT, 3)} ${pick(WHEN, 5)}.`;
}

export interface TwoSpaces {
  readonly source: Source;
  /** Live: static/mini@128 in the column `embedding`. */
  readonly from: Space;
  /** Building: static/mini@256 in `embedding_2`. */
  readonly to: Space;
}

export interface TwoSpacesSetup {
  readonly table: string;
  readonly rows: number;
  readonly store?: StoreKind;
  /** DDL in place of the plain table; it makes columns id and body, and no rows. */
  readonly create?: string;
  readonly where?: string;
  readonly tenant?: string;
  readonly content?: { readonly sql: string };
  readonly indexed?: boolean;
}

/** A source half way through a migration: both spaces full, the new one indexed unless told not to be. */
export async function twoSpaces(fixture: Fixture, setup: TwoSpacesSetup): Promise<TwoSpaces> {
  const { table, rows, store = 'column', where, tenant, indexed = true } = setup;
  const { db } = fixture;
  await db.exec(setup.create ?? `CREATE TABLE ${table} (id int PRIMARY KEY, body text)`);
  await db.query(`INSERT INTO ${table} (id, body) SELECT * FROM unnest($1::int[], $2::text[])`, [
    Array.from({ length: rows }, (_, i) => i + 1),
    Array.from({ length: rows }, (_, i) => textOf(i + 1)),
  ]);
  const { source, space: from } = await fixture.add({
    table,
    content: setup.content ?? { columns: ['body'] },
    model: 'static/mini@128',
    where,
    tenant,
    store,
    index: indexed ? 'hnsw' : 'none',
  });
  const made = await addSpace(db, source, {
    model: 'static/mini',
    dimensions: 256,
    state: 'building',
    store,
    column: 'embedding_2',
  });
  const { fingerprint } = await fixture.models.get('static/mini@256');
  await db.query('UPDATE freshvec.space SET fingerprint = $2, index_kind = $3 WHERE id = $1', [
    made.id,
    fingerprint,
    indexed ? 'hnsw' : 'none',
  ]);
  const to = await getSpace(db, made.id);
  if (!to) throw new Error('no space');
  await db.tx((tx) => insertLoadRanges(tx, source, to.id, 'load'));
  await fixture.work();
  if (indexed) for (const space of [from, to]) await ensureIndex(db, source, space);
  await db.exec(`ANALYZE ${table}`);
  return { source, from, to };
}

export function contextOf(
  fixture: Pick<Fixture, 'db' | 'models'> & { readonly budget: Gates },
  spaces: TwoSpaces,
  settings: Partial<GateSettings> = {},
  queries: readonly LabelledQuery[] = [],
): GateContext {
  const { source, from, to } = spaces;
  return {
    db: fixture.db,
    source,
    from,
    to,
    migration: migrationOf(spaces, queries),
    models: fixture.models,
    budget: fixture.budget,
    settings: { ...DEFAULT_GATES, ...settings },
    signal: new AbortController().signal,
  };
}

function migrationOf({ source, from, to }: TwoSpaces, queries: readonly LabelledQuery[]): Migration {
  return {
    id: 1,
    sourceId: source.id,
    fromSpaceId: from.id,
    toSpaceId: to.id,
    target: to,
    state: 'verifying',
    token: undefined,
    parkedState: undefined,
    reason: undefined,
    paused: false,
    renamed: false,
    auto: false,
    until: 1,
    retainSeconds: undefined,
    dropSpaceId: undefined,
    accepted: [],
    queries,
    rows: 0,
    share: 1,
    throttle: [],
    worked: 0,
    filledBefore: 0,
    gates: [],
    tries: 0,
    createdAt: '2026-01-01T00:00:00Z',
    switchedAt: undefined,
    endedAt: undefined,
  };
}

export type ReembedFixture = Fixture & { readonly budget: Gates };

/** Runs a suite on a server and on the embedded database, each with a database of its own. */
export function onBoth(suite: (fixture: () => ReembedFixture, engine: Engine) => void): void {
  describe.each<Engine>(['postgres', 'pglite'])('%s', (engine) => {
    let fixture: ReembedFixture;
    beforeAll(async () => {
      const opened = await openFixture(engine);
      fixture = { ...opened, budget: createGates(opened.db, {}, () => {}) };
    });
    afterAll(async () => {
      await fixture.budget.close();
      await fixture.close();
    });
    suite(() => fixture, engine);
  });
}
