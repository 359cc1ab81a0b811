import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { qualified } from '../db/identifiers.js';
import { takeTime } from '../db/timeouts.js';
import { askAgain, askGuarded, guardedStatement } from './guarded.js';
import type { Knn } from './operator.js';
import { readTarget } from './target.js';

/** A row near to a query. */
export interface Neighbour {
  /** The key's text. */
  readonly key: string;
  readonly distance: number;
}

/**
 * Who decides how the rows are found: the planner, as for any search; only the vector index, even where reading the
 * whole table would be cheaper; or nobody: every vector is compared. As in any search, what the first two leave short of
 * k rows because of a filter is asked once more, exactly.
 */
export type Way = 'planner' | 'index' | 'exact';

export interface Question {
  /** Float32Array of length `space.dimensions`. */
  readonly query: Float32Array;
  readonly k: number;
  readonly efSearch: number;
  readonly way: Way;
  /** Value of the source's tenant column; all rows are searched without one. */
  readonly tenant?: string | undefined;
}

/** A scan of the plan, as EXPLAIN names it. */
export interface PlannedScan {
  readonly node: string;
  /** Qualified and quoted. */
  readonly relation: string;
  readonly index: string | undefined;
}

/** One space, live or not, in one snapshot. */
export interface SpaceSearch {
  readonly tx: Executor;
  /** Nearest first, and how long that took. `again`: a filter left it short of k, so every row was compared. */
  ask(question: Question): Promise<{ readonly near: Neighbour[]; readonly ms: number; readonly again: boolean }>;
  explain(question: Question): Promise<PlannedScan[]>;
}

/**
 * Searches a space by the statement that `search` runs, whichever space of the source is live. All of `fn` sees
 * one snapshot, in a transaction that only reads: nothing may be embedded in it.
 *
 * Throws FreshvecError `space_unsearchable` where the source has no live space.
 */
export async function searchSpace<T>(
  db: Database,
  source: Source,
  space: Space,
  fn: (search: SpaceSearch) => Promise<T>,
): Promise<T> {
  const schema = (await db.vectorExtension())?.schema ?? 'public';
  return db.tx(async (tx) => {
    await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
    await tx.query('SET LOCAL jit = off');
    // To compare every vector of a large table takes longer than an app's statement may.
    await takeTime(tx);
    const live = await readTarget(tx, source.name);
    if (!live) throw unsearchable(source.name);
    const statement = ({ query, k, way, tenant }: Question, knn: Knn = 'approximate') => {
      const request = tenant === undefined ? {} : { tenant };
      const made = guardedStatement({ ...live, space }, schema, query, k, request, knn, 'unread');
      return way === 'planner' ? made : { ...made, planning: [] };
    };
    return fn({
      tx,
      async ask(question) {
        await goBy(tx, question.way);
        const began = performance.now();
        let answer = await askGuarded(tx, statement(question), question);
        const again = answer?.filtered === true && answer.near.length < question.k && question.way !== 'exact';
        if (again) {
          await goBy(tx, 'planner');
          answer = await askAgain(tx, statement({ ...question, way: 'planner' }, 'exact'));
        }
        const ms = performance.now() - began;
        if (!answer) throw unsearchable(source.name);
        const near = answer.near.map((row) => ({ key: row.__fv_key, distance: row.__fv_distance }));
        // A zero vector has no cosine distance.
        return { near: near.filter(({ distance }) => !Number.isNaN(distance)), ms, again };
      },
      async explain(question) {
        await goBy(tx, question.way);
        const { text, params, planning } = statement(question);
        if (planning.length > 0) await tx.query(`SELECT ${planning.join(', ')}`);
        const [row] = await tx.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
          `EXPLAIN (VERBOSE, FORMAT JSON) ${text}`,
          params,
        );
        return row ? scansOf(row['QUERY PLAN'][0].Plan) : [];
      },
    });
  });
}

const OFF: Readonly<Record<Way, readonly string[]>> = {
  planner: [],
  // Without a sort only the vector index gives the order, whatever other indexes the source's filter could use.
  index: ['enable_seqscan', 'enable_bitmapscan', 'enable_sort'],
  exact: ['enable_indexscan'],
};
const SWITCHES = [...new Set(Object.values(OFF).flat())];

/** NULL is the setting's default. */
async function goBy(tx: Executor, way: Way): Promise<void> {
  await tx.query(
    'SELECT set_config(name, CASE WHEN name = ANY($2::text[]) THEN $3 END, true) FROM unnest($1::text[]) AS name',
    [SWITCHES, OFF[way], 'off'],
  );
}

interface PlanNode {
  readonly 'Node Type': string;
  readonly Schema?: string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly Plans?: readonly PlanNode[];
}

function scansOf(node: PlanNode): PlannedScan[] {
  const below = (node.Plans ?? []).flatMap(scansOf);
  const { Schema: schema, 'Relation Name': relation } = node;
  if (schema === undefined || relation === undefined) return below;
  return [{ node: node['Node Type'], relation: qualified(schema, relation), index: node['Index Name'] }, ...below];
}

function unsearchable(source: string): FreshvecError {
  return new FreshvecError(
    'space_unsearchable',
    `"${source}" has no space that answers searches, so nothing can be measured. Look at \`freshvec status ${source}\`.`,
  );
}
