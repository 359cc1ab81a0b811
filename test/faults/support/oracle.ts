import { expect } from 'vitest';
import type { Space } from '../../../src/catalog/space.js';
import type { Database } from '../../../src/db/database.js';
import { vectorTable } from '../../../src/store/table.js';
import { eventually } from '../../support/eventually.js';

/** What is left to do, by the tables themselves. */
export interface Backlog {
  readonly changes: number;
  readonly leases: number;
  readonly ranges: number;
  readonly failures: number;
}

type RowState = {
  id: number;
  title: string | null;
  body: string | null;
  hidden: boolean;
  true_hash: string | null;
  vector: number[] | null;
  model: string | null;
  hash: string | null;
  stale: boolean | null;
};

export interface Expectation {
  readonly space: Space;
  /** The vector that the model makes of a text. */
  readonly vectorOf: (text: string) => Float32Array;
  readonly timeoutMs?: number;
}

export async function backlog(db: Database): Promise<Backlog> {
  const [row] = await db.query<Backlog & Record<string, unknown>>(
    `SELECT (SELECT count(*)::int FROM freshvec.change_key) AS changes, (SELECT count(*)::int FROM freshvec.lease) AS leases,
       (SELECT count(*)::int FROM freshvec.range) AS ranges, (SELECT count(*)::int FROM freshvec.failure) AS failures`,
  );
  if (!row) throw new Error('no backlog');
  return { changes: row.changes, leases: row.leases, ranges: row.ranges, failures: row.failures };
}

/**
 * Invariant C, once the app has stopped: nothing is left to do, and every row of `doc` that should have a vector has
 * the very vector that the model makes of its text, and none that should not.
 */
export async function assertFresh(db: Database, { space, vectorOf, timeoutMs = 90_000 }: Expectation): Promise<void> {
  let left: Backlog | undefined;
  const quiet = async () => {
    left = await backlog(db);
    return left.changes + left.leases + left.ranges === 0;
  };
  await eventually(quiet, { timeoutMs, intervalMs: 50, what: 'quiet' }).catch((error: unknown) => {
    throw new Error(`not quiet: ${JSON.stringify(left)}`, { cause: error });
  });
  expect(left?.failures).toBe(0);
  const rows = await db.query<RowState>(stateSql(space));
  const wrong = rows.flatMap((row) => {
    const fault = faultOf(row, space, vectorOf);
    return fault === undefined ? [] : [`${row.id}: ${fault}`];
  });
  expect(wrong).toEqual([]);
  expect(rows.some(({ vector }) => vector !== null)).toBe(true);
}

/** Rows that have the vector of their text, by its hash. */
export async function countFresh(db: Database, space: Space): Promise<number> {
  const rows = await db.query<RowState>(stateSql(space));
  return rows.filter(({ hash, true_hash, vector }) => vector !== null && hash === true_hash).length;
}

function stateSql(space: Space): string {
  const text = `freshvec.content_hash(concat_ws(E'\\n\\n', NULLIF(title, ''), NULLIF(body, '')))::text AS true_hash`;
  if (space.store === 'column') {
    return `SELECT id, title, body, hidden, ${text}, embedding::real[] AS vector, embedding_model AS model,
      embedding_hash::text AS hash, embedding_stale AS stale FROM doc ORDER BY id`;
  }
  // FULL JOIN: a vector whose row is gone must be found too.
  return `SELECT id, title, body, COALESCE(hidden, true) AS hidden, ${text}, v.embedding::real[] AS vector, v.model,
    v.hash::text AS hash, NULL::boolean AS stale FROM doc FULL JOIN ${vectorTable(space)} v USING (id) ORDER BY id`;
}

function faultOf(row: RowState, space: Space, vectorOf: (text: string) => Float32Array): string | undefined {
  const text = [row.title, row.body].filter(Boolean).join('\n\n');
  if (row.hidden || !/\S/.test(text)) {
    if (row.vector !== null || row.hash !== null) return 'should have no vector';
    return row.stale ? 'should have no vector, and is still said to be stale' : undefined;
  }
  if (row.vector === null) return 'has no vector';
  if (row.hash !== row.true_hash) return 'has the vector of another text';
  if (row.model !== space.fingerprint) return `has a vector of ${row.model}`;
  if (row.stale) return 'is fresh, and said to be stale';
  const expected = vectorOf(text);
  if (row.vector.length !== expected.length) return 'has a vector of other dimensions';
  return row.vector.every((x, i) => Math.fround(x) === expected[i]) ? undefined : 'has a wrong vector';
}
