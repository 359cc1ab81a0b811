import { isDeepStrictEqual } from 'node:util';
import { readSpaceSpend, setSpaceCap } from '../budget/space-cap.js';
import { hasEnded, latestMigration, type Migration } from '../catalog/migration.js';
import { liveSpace } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { sqlState } from '../db/errors.js';
import { reserveSpaceId, restlessRefusals } from '../source/index.js';
import type { ReembedPlan, StartOptions } from './definition.js';
import { MigrationRefused, ReembedRefused } from './errors.js';
import { refuseTenants } from './eval/queries.js';
import { record } from './transition.js';

/**
 * Starts what a plan says; a controller takes it from there. The same again while one is under way to the same model,
 * store, type and metric changes nothing. Throws ReembedRefused with every blocker, or MigrationRefused where another one
 * is under way, or this one was started with other options.
 */
export async function startReembed(db: Database, plan: ReembedPlan, options: StartOptions = {}): Promise<Migration> {
  const { source, from, to } = plan;
  const open = await latestMigration(db, source.id);
  if (open && !hasEnded(open)) return sameOrRefused(db, plan, open, options);
  if (plan.blockers.length > 0) throw new ReembedRefused(source.name, plan.blockers);
  refuseTenants(source, options.queries ?? []);
  if (options.until !== undefined && !(options.until > 0 && options.until <= 1)) {
    throw new ReembedRefused(source.name, [
      `--until is a share of the rows above 0 and up to 100 %, not ${options.until}.`,
    ]);
  }
  const live = await liveSpace(db, source.id);
  if (live?.space.id !== from.id)
    throw new ReembedRefused(source.name, ['its live space changed since the plan was made: plan again.']);
  // Freshvec updates the rows from now on. It runs the app's triggers, so not for a plan.
  const restless = to.store === 'column' && from.store !== 'column' ? await restlessRefusals(db, source) : [];
  if (restless.length > 0) throw new ReembedRefused(source.name, restless);
  const id = await reserveSpaceId(db);
  try {
    return await db.tx(async (tx) => {
      const [row] = await tx.query<{ id: number }>(
        `INSERT INTO freshvec.migration (source_id, from_space, to_space, target, state, auto, until, retain, queries, rows)
         VALUES ($1, $2, $3, $4::jsonb, 'planned', $5, $6, make_interval(secs => $7::float8), $8::jsonb, $9) RETURNING id`,
        [
          source.id,
          from.id,
          id,
          JSON.stringify(toRow({ ...to, id })),
          options.auto ?? false,
          options.until === 1 ? null : (options.until ?? null),
          options.retainSeconds ?? null,
          options.queries === undefined ? null : JSON.stringify(options.queries),
          plan.rows,
        ],
      );
      if (!row) throw new TypeError('INSERT gave no row');
      if (options.spendCap !== undefined) await setSpaceCap(tx, id, options.spendCap);
      await record(tx, row.id, 'planned', `asked for: ${from.fingerprint} to ${to.fingerprint}`);
      const migration = await latestMigration(tx, source.id);
      if (!migration) throw new TypeError('the migration is not there');
      return migration;
    });
  } catch (error) {
    if (sqlState(error) !== '23505') throw error;
    const faster = await latestMigration(db, source.id);
    if (!faster) throw error;
    return sameOrRefused(db, plan, faster, options);
  }
}

async function sameOrRefused(
  db: Database,
  { source, to }: ReembedPlan,
  open: Migration,
  options: StartOptions,
): Promise<Migration> {
  const { target } = open;
  const same =
    target.fingerprint === to.fingerprint &&
    target.store === to.store &&
    target.type === to.type &&
    target.metric === to.metric &&
    (to.adoption === undefined || target.column === to.column);
  const refused = (why: string) => new MigrationRefused(source.name, 'start', open.state, why);
  if (!same) throw refused(`it is on its way to ${target.fingerprint} already: \`complete\` or \`abort\` that first`);
  const others = await otherOptions(db, open, options);
  if (others.length > 0) {
    throw refused(`it was started with another ${others.join(' and ')}: leave that away, or \`abort\` it first`);
  }
  return open;
}

/** Options that were given and that this migration does not have; once it has switched, what leads there matters no more. */
async function otherOptions(db: Database, open: Migration, options: StartOptions): Promise<string[]> {
  const { auto, until, retainSeconds, spendCap, queries } = options;
  const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
  const rounded = (usd: number | undefined) => usd?.toFixed(6);
  const capUsd = spendCap === undefined ? undefined : (await readSpaceSpend(db, open.toSpaceId)).capUsd;
  const before = {
    '--auto': auto === true && !open.auto,
    '--until': until !== undefined && until !== open.until,
    '--spend-cap': spendCap !== undefined && rounded(spendCap) !== rounded(capUsd),
    '--queries': queries !== undefined && !isDeepStrictEqual(plain(queries), plain(open.queries)),
  };
  const others = {
    ...(open.switchedAt === undefined ? before : {}),
    '--retain': retainSeconds !== undefined && retainSeconds !== open.retainSeconds,
  };
  return Object.entries(others).flatMap(([name, differs]) => (differs ? [name] : []));
}

/** As the table `space` has it. */
function toRow(space: ReembedPlan['to']) {
  return {
    id: space.id,
    source_id: space.sourceId,
    spec: space.spec,
    fingerprint: space.fingerprint,
    dimensions: space.dimensions,
    state: space.state,
    store: space.store,
    column_name: space.column,
    vector_type: space.type,
    metric: space.metric,
    index_kind: space.index.kind,
    m: space.index.m,
    ef_construction: space.index.efConstruction,
    adoption: space.adoption ?? null,
  };
}
