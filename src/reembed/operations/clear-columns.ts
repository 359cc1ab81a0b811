import { setTimeout as sleep } from 'node:timers/promises';
import { listRelations } from '../../capture/index.js';
import { columnsThere } from '../../catalog/columns.js';
import type { Space } from '../../catalog/space.js';
import type { Database, Executor } from '../../db/database.js';
import { classify, isOfOneRow } from '../../db/errors.js';
import { ident, qualified } from '../../db/identifiers.js';
import { readHazards } from '../../source/index.js';
import { LoadDuty } from '../../stages/load-duty.js';
import { createPace, createStayingPace, FIRST_WRITE, restartPaces } from '../../stages/pace.js';
import { lineUp, nextInLine } from '../../stages/waves.js';
import { columnNames, columnsOf } from '../../store/column.js';
import { type IndexCost, indexCost } from '../../store/index-state.js';
import { vacuumTable } from '../../store/vacuum-table.js';
import type { StepContext } from '../operation.js';
import { TICK_MS, tickThrottle } from '../tick-throttle.js';

/** Rows that the app held are tried again in so many passes; what is left then goes with the column. */
const PASSES = 3;
/** Rows that are looked for at a time, more or less. */
const LOOK_ROWS = 500;

/** A row that has a vector to be cleared: its ctid, and the page that it is on. */
type Row = { readonly at: string; readonly page: string };

/**
 * Sets the vectors of a space to NULL in small transactions, so that a VACUUM can give their room back: a dropped column
 * keeps it. It goes as the worker's writes do: as fast as the throttle lets it, few rows at a time and in waves where the
 * table has a vector index in use. Rows that the app holds are passed over, and tried once more at the end. Left out
 * where the app has UPDATE triggers of its own, which would fire for every row.
 */
export async function clearColumns(context: StepContext, space: Space): Promise<void> {
  const { db, source, signal } = context;
  const columns = (await columnsThere(db, source.relation.oid, columnsOf(space))).map(ident);
  if (!columns.includes(columnNames(space).vector)) return;
  if ((await readHazards(db, source.relation.oid)).updateTriggers.length > 0) return;
  const turns = new Turns(context, space);
  const cleared = new Set<number>();
  const nextLeaf = async () =>
    (await listRelations(db, source.relation.oid)).find(({ oid, leaf }) => leaf && !cleared.has(oid));
  // Looked for one by one: hours go by, and one that was detached meanwhile is the app's alone.
  for (let leaf = await nextLeaf(); leaf !== undefined; leaf = await nextLeaf()) {
    cleared.add(leaf.oid);
    const table = qualified(leaf.schema, leaf.table);
    for (let pass = 0; pass < PASSES; pass++) if (!(await clearOnce(db, table, columns, turns))) break;
    // Even where nothing was left to clear: whoever did it may have been killed before the vacuum.
    await vacuumTable(db, table, { lockTimeoutMs: 0, signal });
  }
}

/** Resolves to whether rows were passed over. */
async function clearOnce(db: Database, table: string, columns: readonly string[], turns: Turns): Promise<boolean> {
  const { pages, pagesAtOnce } = await sizeOf(db, table);
  let passedOver = false;
  for (let page = 0; page < pages; page += pagesAtOnce) {
    const { result } = await turns.take(() => rowsWithVector(db, table, columns, page, page + pagesAtOnce));
    for (let line = lineUp(result, turns.indexed); line.length > 0; ) {
      const { rows, style } = nextInLine(line, turns);
      const { result: cleared, ms } = await turns.take(() => clear(db, table, columns, rows));
      style.pace.observe(cleared, ms);
      passedOver ||= cleared < rows.length;
      line = line.slice(rows.length);
    }
  }
  return passedOver;
}

function rowsWithVector(
  db: Executor,
  table: string,
  [vector = '']: readonly string[],
  from: number,
  to: number,
): Promise<Row[]> {
  return db.query<Row>(
    `SELECT ctid::text AS at, (ctid::text::point)[0]::text AS page FROM ${table}
     WHERE ctid >= $1::tid AND ctid < $2::tid AND ${vector} IS NOT NULL`,
    [`(${from},0)`, `(${to},0)`],
  );
}

/**
 * Resolves to how many rows were cleared. None where the table refuses one of them (a constraint of the app's), or one is
 * moving between partitions. A crash may take it back: then it is done again, and the drop waits for the disk.
 */
async function clear(
  db: Database,
  table: string,
  [vector = '', ...companions]: readonly string[],
  rows: readonly Row[],
): Promise<number> {
  try {
    const [row] = await db.tx(
      (tx) =>
        tx.query<{ cleared: number }>(
          `WITH held AS MATERIALIZED (
             SELECT t.ctid FROM ${table} t WHERE t.ctid = ANY($1::text[]::tid[]) AND ${vector} IS NOT NULL
             FOR NO KEY UPDATE SKIP LOCKED
           ), done AS (
             UPDATE ${table} t SET ${[vector, ...companions].map((column) => `${column} = NULL`).join(', ')}
             WHERE t.ctid = ANY(ARRAY(SELECT ctid FROM held)) RETURNING 1
           )
           SELECT count(*) AS cleared FROM done`,
          [rows.map(({ at }) => at)],
        ),
      { flushed: false },
    );
    return row?.cleared ?? 0;
  } catch (error) {
    if (isOfOneRow(error) || classify(error) === 'retry') return 0;
    throw error;
  }
}

async function sizeOf(db: Executor, table: string): Promise<{ pages: number; pagesAtOnce: number }> {
  const [row] = await db.query<{ pages: number; rows: number }>(
    `SELECT pg_relation_size(oid) / current_setting('block_size')::int AS pages,
       CASE WHEN relpages > 0 AND reltuples > 0 THEN reltuples / relpages ELSE 10 END::float8 AS rows
     FROM pg_class WHERE oid = $1::text::regclass`,
    [table],
  );
  return { pages: row?.pages ?? 0, pagesAtOnce: Math.max(1, Math.floor(LOOK_ROWS / (row?.rows ?? 1))) };
}

/** Whose turn it is, clearing or the app: what the throttle says, and what the writes so far have taken. */
class Turns {
  /** What writes pay for at present. */
  indexed: IndexCost = 'each';
  readonly moving = { pace: createPace(FIRST_WRITE.indexed) };
  readonly staying = { pace: createStayingPace(this.moving.pace, FIRST_WRITE.indexed) };
  readonly #duty = new LoadDuty();
  #share: number;
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly context: StepContext,
    private readonly space: Space,
  ) {
    this.#share = context.migration.share;
  }

  /** Works once it is time to, and says how long it took, in ms. */
  async take<T>(work: () => Promise<T>): Promise<{ result: T; ms: number }> {
    const { signal } = this.context;
    for (;;) {
      signal.throwIfAborted();
      if (performance.now() - this.#lookedAt >= TICK_MS) await this.#look();
      const restMs = this.#duty.restMs();
      if (restMs === 0) break;
      await sleep(Math.min(restMs, TICK_MS), undefined, { signal });
    }
    const began = performance.now();
    const result = await work();
    const ms = performance.now() - began;
    this.#duty.worked(ms);
    return { result, ms };
  }

  async #look(): Promise<void> {
    const { db, source } = this.context;
    this.#share = await tickThrottle(this.context, this.#share);
    this.#duty.follow(this.#share);
    const indexed = await indexCost(db, source, this.space);
    if (indexed !== this.indexed) restartPaces(this.moving.pace, this.staying.pace, indexed);
    this.indexed = indexed;
    this.#lookedAt = performance.now();
  }
}
