import { stillDefinedSql } from '../../catalog/source.js';
import { PAST_LAST_PAGE } from '../../claim/range.js';
import { classify } from '../../db/errors.js';
import { addCoverage, NOTHING } from '../../store/coverage.js';
import { openStore } from '../../store/index.js';
import type { CoverageCount, PageRange, Store, WrittenIn } from '../../store/port.js';
import { vectorCodec } from '../../store/vector-codec.js';
import type { Gate, GateContext } from './context.js';

/** Pages of one statement: some 4 MB of rows, so that no snapshot is held for long. */
const STEP_PAGES = 512;
/** Tries for a table that is rewritten (VACUUM FULL) meanwhile. */
const MOST_TRIES = 3;

type CoverageContext = Pick<GateContext, 'db' | 'source' | 'to' | 'signal'>;
type Leaf = { oid: number; filenode: number; pages: number; xid: string };

/** What the whole source looks like from the new space. */
export interface Coverage extends CoverageCount {
  /** The source was altered while it was read, so this says nothing. */
  readonly altered: boolean;
}

/** No row of the new space is missing or of another text without a change, lease or failure that knows of it. */
export function coverageGate({ rows, missing, stale, surplus, examples, altered }: Coverage): Gate {
  const value = missing + stale + surplus;
  const found = [
    ...(missing > 0 ? [`${missing} without a vector`] : []),
    ...(stale > 0 ? [`${stale} with the vector of another text or model`] : []),
    ...(surplus > 0 ? [`${surplus} with a vector that they should not have`] : []),
  ];
  const why = `rows that no change, lease or failure knows of: ${found.join(', ')}, for example ${examples.join(', ')}; going back to backfilling mends them`;
  const note = altered
    ? 'the source was altered while its rows were read: measure again'
    : value > 0
      ? why
      : `all ${rows} rows are fresh, or known to be not`;
  return { name: 'coverage', passed: value === 0 && !altered, value, bound: 0, note };
}

/**
 * Reads every row once: leaf by leaf, some pages a statement, each of one snapshot. An update moves a row to another
 * page, perhaps from one not read yet to one that was. So these statements leave out what was written since the
 * beginning, and a last one over the whole leaf reads just that: a row that it does not see as written since was where it
 * is all the time.
 */
export async function readCoverage(context: CoverageContext, stepPages = STEP_PAGES): Promise<Coverage> {
  const { db, source, to } = context;
  const extension = await db.vectorExtension();
  const store = openStore(source, to, await vectorCodec(db, extension ?? { schema: 'public', version: '' }));
  let sum = NOTHING;
  for (const { oid } of await leavesOf(context)) {
    sum = addCoverage(sum, await readLeaf(context, store, oid, stepPages, MOST_TRIES));
  }
  const [defined] = await db.query<{ still: boolean }>(`SELECT ${stillDefinedSql(source)} AS still`);
  return { ...sum, altered: defined?.still !== true };
}

async function readLeaf(
  context: CoverageContext,
  store: Store,
  oid: number,
  stepPages: number,
  tries: number,
): Promise<CoverageCount> {
  const leaf = await leafNow(context, oid);
  if (!leaf) return NOTHING; // Detached or dropped meanwhile: no part of the source any more.
  const { pages, xid } = leaf;
  let sum = NOTHING;
  for (let fromPage = 0; fromPage < pages; fromPage += stepPages) {
    context.signal.throwIfAborted();
    const range = { relationOid: oid, fromPage, toPage: Math.min(pages, fromPage + stepPages) };
    sum = addCoverage(sum, await readPages(context, store, range, { xid, when: 'before' }));
  }
  const all = { relationOid: oid, fromPage: 0, toPage: PAST_LAST_PAGE };
  sum = addCoverage(sum, await readPages(context, store, all, { xid, when: 'since' }));
  const after = await leafNow(context, oid);
  if (after?.filenode === leaf.filenode) return sum;
  return tries > 1 ? readLeaf(context, store, oid, stepPages, tries - 1) : { ...sum, stale: Math.max(1, sum.stale) };
}

/** Where the content of some row cannot be had, the pages are halved, and those of the last page are read key by key. */
async function readPages(
  context: CoverageContext,
  store: Store,
  range: PageRange,
  written: WrittenIn,
): Promise<CoverageCount> {
  try {
    return await context.db.tx((tx) => store.uncovered(tx, range, written));
  } catch (error) {
    if (classify(error) !== 'data') throw error;
    const { fromPage } = range;
    const pages = (await leafNow(context, range.relationOid))?.pages ?? 0;
    const toPage = Math.min(range.toPage, Math.max(pages, fromPage + 1));
    if (toPage - fromPage <= 1) return readKeys(context, store, { ...range, toPage }, written);
    const middle = Math.floor((fromPage + toPage) / 2);
    return addCoverage(
      await readPages(context, store, { ...range, toPage: middle }, written),
      await readPages(context, store, { ...range, fromPage: middle }, written),
    );
  }
}

/** The keys of one page, one by one. One whose content fails must be known for it. */
async function readKeys(
  { db }: CoverageContext,
  store: Store,
  page: PageRange,
  written: WrittenIn,
): Promise<CoverageCount> {
  let sum = NOTHING;
  for (const key of await db.tx((tx) => store.suspects(tx, page, written))) {
    const one = await db.tx(async (tx) => {
      await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
      const [known] = await tx.query(
        `SELECT 1 FROM freshvec.change_key WHERE space_id = $1 AND key = $2
         UNION ALL SELECT 1 FROM freshvec.lease WHERE space_id = $1 AND key = $2
         UNION ALL SELECT 1 FROM freshvec.failure WHERE space_id = $1 AND key = $2`,
        [store.space.id, key],
      );
      await tx.query('SAVEPOINT row');
      const state = await store.read(tx, [key]).then(
        ([row]) => row,
        async (error: unknown) => {
          if (classify(error) !== 'data') throw error;
          await tx.query('ROLLBACK TO SAVEPOINT row');
          return undefined;
        },
      );
      const rows = state?.state === 'unwanted' ? 0 : 1;
      if (known) return { ...NOTHING, rows };
      if (state === undefined) return { ...NOTHING, rows, stale: 1, examples: [key] };
      if (state.state === 'wanted') return { ...NOTHING, rows, missing: 1, examples: [key] };
      if (state.state === 'unwanted' && state.exists && state.untidy)
        return { ...NOTHING, surplus: 1, examples: [key] };
      return { ...NOTHING, rows };
    });
    sum = addCoverage(sum, one);
  }
  return sum;
}

async function leavesOf({ db, source }: CoverageContext): Promise<{ oid: number }[]> {
  return db.query<{ oid: number }>(
    `SELECT c.oid::int8 AS oid FROM pg_class c
     WHERE c.relkind = 'r' AND (c.oid = $1::int8::oid OR c.oid IN (SELECT relid FROM pg_partition_tree($1::int8::oid::regclass)))
     ORDER BY c.oid`,
    [source.relation.oid],
  );
}

/** `xid`: of the oldest transaction that is not over, so that whatever is written from now on is its or a later one's. */
async function leafNow({ db }: CoverageContext, oid: number): Promise<Leaf | undefined> {
  const [leaf] = await db.query<Leaf>(
    `SELECT c.oid::int8 AS oid, pg_relation_filenode(c.oid)::int8 AS filenode,
       pg_relation_size(c.oid) / current_setting('block_size')::int AS pages,
       pg_snapshot_xmin(pg_current_snapshot())::xid::text AS xid
     FROM pg_class c WHERE c.oid = $1::int8::oid`,
    [oid],
  );
  return leaf;
}
