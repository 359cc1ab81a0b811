import type { Database } from '../src/db/database.js';
import { indexSize } from '../src/maintenance/bloat.js';
import { buildIndexes } from '../src/maintenance/build-indexes.js';
import { reindex, validIndexes } from '../src/maintenance/reindex.js';
import { listRuns } from '../src/maintenance/run-log.js';
import { DEFAULT_MAINTENANCE } from '../src/maintenance/services.js';
import { listTargets, type Target } from '../src/maintenance/targets.js';
import { createPointerCache } from '../src/search/pointer-cache.js';
import type { EmbedQuery } from '../src/search/query-vectors.js';
import { measureRecall } from '../src/search/recall.js';
import { search } from '../src/search/search.js';
import type { Bench, Lab } from './support/lab.js';
import { addSource, prepare } from './support/source.js';
import { quantile, seededRandom, timed } from './support/stats.js';

const ROWS = 50_000;
const ROUNDS = 5;
const DIMENSIONS = 64;
const CLUSTERS = 500;
const SEARCHERS = 2;
const SAMPLE = 200;
const STEP = 1_000;

/** An index that five rounds of edits have bloated is found, and rebuilt under the app's searches. */
export const upkeep: Bench = async (lab) => {
  const url = await lab.postgres();
  const [db, app] = [lab.database(url, 4), lab.database(url, SEARCHERS)];
  const target = await bloated(lab, db);
  const size = async () => sizeOf(db, target);
  const recall = async () => (await measureRecall(db, target.source, target.space, { sample: SAMPLE })).recall;

  const [before, recallBefore] = [await size(), await recall()];
  const quiet = await searching(app, async (enough) => enough(300));
  lab.say(`the index is ${before.ratio.toFixed(1)} times as large as it need be; rebuilding`);
  let rebuilt = 0;
  let seconds = 0;
  const during = await searching(app, async () => {
    seconds =
      (await timed(async () => {
        rebuilt = await reindex(db, { ...DEFAULT_MAINTENANCE, byPerson: false });
      })) / 1000;
  });
  const [after, recallAfter] = [await size(), await recall()];
  const [run] = await listRuns(db, { limit: 1 });
  lab.setup.push(
    `${ROWS} vectors of ${DIMENSIONS} dimensions in ${CLUSTERS} clusters, HNSW m 16; ${ROUNDS} rounds that write each ` +
      'vector anew, autovacuum off for the table',
    `${SEARCHERS} searchers, k = 10, ef_search 80; recall of ${SAMPLE} stored vectors; logged: ${run?.did}`,
  );
  return [
    { what: 'bloat found', value: before.ratio, unit: '×', atLeast: DEFAULT_MAINTENANCE.bloatRatio },
    { what: 'indexes rebuilt', value: rebuilt, unit: '', atLeast: 1, atMost: 1 },
    { what: 'searches that failed meanwhile', value: during.failed, unit: '', atMost: 0 },
    { what: 'searches meanwhile', value: during.ms.length, unit: '', atLeast: 100 },
    { what: 'size after', value: after.bytes / 2 ** 20, unit: 'MB', atMost: (before.bytes / 2 ** 20) * 0.5 },
    { what: 'size before', value: before.bytes / 2 ** 20, unit: 'MB' },
    // 0.01: what two samples of the same index differ by.
    { what: 'recall after', value: recallAfter, unit: '', atLeast: recallBefore - 0.01 },
    { what: 'recall before', value: recallBefore, unit: '' },
    { what: 'seconds, with both measurements of recall', value: seconds, unit: '' },
    { what: 'search p95 before', value: quantile(quiet.ms, 0.95), unit: 'ms' },
    { what: 'search p95 meanwhile', value: quantile(during.ms, 0.95), unit: 'ms' },
  ];
};

/** A source with vectors and an index over them, which the rounds of edits have been through. */
async function bloated(lab: Lab, db: Database): Promise<Target> {
  await prepare(db);
  await db.exec('CREATE TABLE note (id bigint PRIMARY KEY, body text) WITH (autovacuum_enabled = false)');
  await addSource(db, {
    table: 'note',
    content: { columns: ['body'] },
    model: `fake/bench@${DIMENSIONS}`,
    store: 'column',
  });
  const [target] = await listTargets(db, 'note');
  if (!target) throw new Error('the source has no space');
  await db.exec(
    `CREATE TABLE cluster AS SELECT c, (SELECT array_agg(random() - 0.5) FROM generate_series(1, ${DIMENSIONS} + 0 * c)) AS middle
       FROM generate_series(0, ${CLUSTERS - 1}) c;
     CREATE FUNCTION near(middle float8[]) RETURNS vector LANGUAGE sql VOLATILE AS
       'SELECT array_agg(x + 0.3 * (random() - 0.5))::vector FROM unnest(middle) x';
     INSERT INTO note (id, body, embedding, embedding_model, embedding_hash, embedding_stale)
       SELECT i, 'note ' || i, near(middle), '${target.space.fingerprint}', md5('note ' || i)::uuid, false
       FROM generate_series(1, ${ROWS}) i JOIN cluster ON c = i % ${CLUSTERS};
     DELETE FROM freshvec.change; DELETE FROM freshvec.change_pack; DELETE FROM freshvec.range`,
  );
  lab.say('building the index');
  await buildIndexes(db);
  for (let round = 1; round <= ROUNDS; round++) {
    lab.say(`edits, round ${round} of ${ROUNDS}`);
    const steps = Array.from({ length: ROWS / STEP }, (_, i) => i * STEP);
    const take = async () => {
      for (let from = steps.shift(); from !== undefined; from = steps.shift()) {
        await db.query(
          `UPDATE note SET embedding = near(middle) FROM cluster WHERE c = (id + $3) % ${CLUSTERS} AND id > $1 AND id <= $2`,
          [from, from + STEP, round],
        );
      }
    };
    await Promise.all([take(), take()]);
  }
  await db.session((session) => session.query('ANALYZE note'));
  return target;
}

async function sizeOf(db: Database, target: Target) {
  const [index] = await validIndexes(db, target);
  if (!index) throw new Error('there is no valid index');
  return indexSize(db, target.space, index, target.space.column, { exact: true });
}

/** Searches as an app does until `meanwhile` has ended; `enough(n)` resolves after n of them. */
async function searching(
  app: Database,
  meanwhile: (enough: (count: number) => Promise<void>) => Promise<void>,
): Promise<{ ms: number[]; failed: number }> {
  const random = seededRandom(7);
  const embedQuery: EmbedQuery = () => Promise.reject(new Error('the vector is given'));
  const deps = { db: app, embedQuery, pointers: createPointerCache() };
  const ms: number[] = [];
  let [failed, over] = [0, false];
  let waiting: { count: number; resolve: () => void } | undefined;
  const searcher = async () => {
    while (!over) {
      const vector = Float32Array.from({ length: DIMENSIONS }, () => random() - 0.5);
      const took = await timed(async () => {
        const { results } = await search(deps, 'note', { vector, k: 10 });
        if (results.length !== 10) failed += 1;
      }).catch(() => {
        failed += 1;
        return undefined;
      });
      if (took !== undefined) ms.push(took);
      if (waiting && ms.length >= waiting.count) waiting.resolve();
    }
  };
  const searchers = Array.from({ length: SEARCHERS }, searcher);
  try {
    await meanwhile((count) => new Promise((resolve) => (waiting = { count, resolve })));
  } finally {
    over = true;
    await Promise.all(searchers);
  }
  return { ms, failed };
}
