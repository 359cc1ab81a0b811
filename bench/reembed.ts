import type { Client } from 'pg';
import { getSource } from '../src/catalog/source.js';
import { liveSpace, type StoreKind } from '../src/catalog/space.js';
import type { Database } from '../src/db/database.js';
import { cutover, rollback } from '../src/reembed/control.js';
import type { MigrationStatus } from '../src/reembed/status.js';
import { ensureIndex } from '../src/store/build-index.js';
import { startReplica } from '../test/support/replica.js';
import { firstLoad, MODEL as INGEST_MODEL, ROWS as INGEST_ROWS } from './ingest.js';
import { APP, App, type AppOptions, type Sample, type Seen } from './support/app.js';
import { editProbe } from './support/edit-probe.js';
import type { Figure } from './support/figures.js';
import type { Bench, Lab } from './support/lab.js';
import {
  migrationAt,
  LOOK_MS as STATUS_LOOK_MS,
  secondsIn,
  startMigration,
  timesIn,
  type Watched,
} from './support/migration.js';
import { addSource, prepare } from './support/source.js';
import { median, quantile, timed } from './support/stats.js';
import { FILLFACTOR, partitioned, plain, type Table } from './support/tables.js';
import { type Lag, type LockWait, watchLag, watchLocks } from './support/watch.js';
import { WorkerProcess } from './support/worker.js';

const FROM = 'fake/bench@384';
const TO = 'fake/bench@768';
/** Of each kind of statement a second. */
const RATE = Number(process.env.REEMBED_RATE ?? 100);
const RATES = { writes: RATE, searches: RATE };
/** Around the rollback: what is stale then is what was left behind. */
const SEARCHES_ONLY = { writes: 0, searches: RATE };
const BASELINE_SECONDS = 30;
const WARM_UP_SECONDS = 10;
/** Edits between the switch and the rollback; as many as there are rows in a shorter run. */
const EDITS = 10_000;
const LOOK_MS = { locks: 10, lag: 250, settled: 100 };
/** The bounds of freshvec's own throttle and freshness (`src/config`). */
const LAG_BOUND_SECONDS = 1;
const FRESHNESS_MS = 30_000;
const SPEED_REPETITIONS = 3;
const RECYCLED_WAL_MB = 4_096;

/**
 * Moves a source to another model beside an app that writes and searches at a fixed rate, with a replica attached: what
 * the app feels against the same load before, and whether the way back loses anything. REEMBED_ROWS and REEMBED_PARTS
 * (`plain,table,partitioned,speed`) make it shorter; REEMBED_RATE, statements of each kind a second, easier. The queue is
 * in Redis, or with REEMBED_QUEUE=postgres in PostgreSQL, where the app's edits ring under the lock of all commits that notify.
 */
export const reembed: Bench = async (lab) => {
  const rows = Number(process.env.REEMBED_ROWS ?? 100_000);
  const parts = (process.env.REEMBED_PARTS ?? Object.keys(PARTS).join()).split(',');
  const figures: Figure[] = [];
  for (const part of parts) {
    const run = PARTS[part];
    if (!run) throw new Error(`REEMBED_PARTS knows ${Object.keys(PARTS).join(', ')}, not "${part}"`);
    lab.say(`${part}, ${rows} rows`);
    for (const figure of await run(lab, rows)) figures.push({ ...figure, what: `${part}: ${figure.what}` });
  }
  lab.setup.push(
    `${rows} rows, ${FROM} to ${TO}, HNSW on the old column, fillfactor ${FILLFACTOR}, ${RATES.writes} writes and ${RATES.searches} searches a second, a replica on this machine`,
  );
  return figures;
};

const PARTS: Readonly<Record<string, (lab: Lab, rows: number) => Promise<Figure[]>>> = {
  plain: (lab, rows) => besideApp(lab, plain(rows), 'column'),
  table: (lab, rows) => besideApp(lab, plain(rows), 'table'),
  partitioned: (lab, rows) => besideApp(lab, partitioned(rows), 'column'),
  speed,
};

/** `store`: where the new vectors go; the old ones are on the rows. */
async function besideApp(lab: Lab, table: Table, store: StoreKind): Promise<Figure[]> {
  const url = await lab.postgres();
  const [db, client] = [lab.database(url), await lab.client(url)];
  const queue = await openedFor(lab, db);
  await loadTable(lab, db, url, table);
  await recycleWal(client);
  const replica = await startReplica(url);
  lab.later(() => replica.stop());
  const worker = await WorkerProcess.start(lab, { url, mode: 'serve', reembed: true, ...queue });
  const models = await modelsByEpoch(db, table.name);
  const app = await App.open(lab, url, appOf(table, models.at));
  await app.run(RATES, WARM_UP_SECONDS);
  await client.query('CHECKPOINT');

  lab.say('the app without a migration');
  const alone = await observed(lab, url, () => app.run(RATES, BASELINE_SECONDS));
  await client.query('CHECKPOINT');

  lab.say('the app beside the migration');
  models.to = (await startMigration(db, table.name, TO, store)).to;
  const during = await observed(lab, url, () => migrate(lab, db, client, { table, store }, app));
  const { watched, fresh, switchMs } = during.result;
  await settled(client);

  const edits = Math.min(EDITS, table.rows);
  lab.say(`${edits} edits, and back`);
  await app.writeAll(edits);
  await settled(client);
  const searching = app.start(SEARCHES_ONLY);
  const rollbackMs = await timed(() => rollback(db, table.name));
  const stale = await staleRows(client, table);
  const after = await searching.stop();
  await worker.stop();
  await replica.stop();

  const { seen } = during.result;
  const all = [alone.result, seen, after];
  return [
    ...backfillFigures(watched),
    ...appFigures(alone.result.samples, seen.samples, watched),
    { what: 'failed app statements', value: sum(all, ({ failed }) => failed), unit: '', atMost: 0 },
    { what: 'app statements', value: sum(all, ({ samples }) => samples.length), unit: '' },
    { what: `longest wait of the app for a lock, before (${alone.lock.why})`, value: alone.lock.ms, unit: 'ms' },
    { what: `longest wait of the app for a lock (${during.lock.why})`, value: during.lock.ms, unit: 'ms', atMost: 100 },
    { what: 'searches across models', value: sum(all, ({ mixed }) => mixed), unit: '', atMost: 0 },
    { what: 'searches with fewer hits than asked for', value: sum(all, ({ short }) => short), unit: '' },
    { what: 'switch', value: switchMs, unit: 'ms', atMost: 50 },
    { what: 'rollback', value: rollbackMs, unit: 'ms', atMost: 50 },
    { what: `rows stale after a rollback that follows ${edits} edits`, value: stale, unit: '', atMost: 0 },
    ...lagFigures(during.lags, watched.status),
    { what: 'edit while backfilling, to searchable in both, p50', value: median(fresh), unit: 'ms' },
    {
      what: 'edit while backfilling, to searchable in both, max',
      value: Math.max(...fresh),
      unit: 'ms',
      atMost: FRESHNESS_MS,
    },
  ];
}

/** A schema whose edits ring for that queue. */
async function openedFor(lab: Lab, db: Database): Promise<{ readonly redisUrl?: string }> {
  const inPostgres = process.env.REEMBED_QUEUE === 'postgres';
  await prepare(db, inPostgres ? 'postgres' : 'redis');
  return inPostgres ? {} : { redisUrl: await lab.redis() };
}

/** A source with vectors and an HNSW index, as it would be found. */
async function loadTable(lab: Lab, db: Database, url: string, table: Table): Promise<void> {
  await db.exec(table.createSql);
  await addSource(db, {
    table: table.name,
    content: { columns: ['body'] },
    model: FROM,
    store: 'column',
    ...table.source,
  });
  const loader = await WorkerProcess.start(lab, { url, mode: 'drain' });
  await loader.drain();
  await loader.stop();
  lab.say('building the HNSW index');
  const source = await getSource(db, table.name);
  const live = await liveSpace(db, source.id);
  if (!live) throw new TypeError('no live space');
  await ensureIndex(db, source, live.space);
  await db.exec(`VACUUM ANALYZE ${table.name}`);
}

/**
 * WAL segments to write over, as a server has that has run for a while. A young one makes each anew, 16 MB that commits
 * wait for: with a migration's WAL once in some five seconds, which is just about the app's p99.
 */
async function recycleWal(client: Client): Promise<void> {
  await client.query(
    `SELECT count(pg_logical_emit_message(false, 'bench', repeat('x', 1 << 20))) FROM generate_series(1, $1::int)`,
    [RECYCLED_WAL_MB],
  );
  await client.query('CHECKPOINT');
}

/** What the pointer may name: the epoch grows by one with the switch, and with the way back. */
async function modelsByEpoch(db: Database, name: string) {
  const live = await liveSpace(db, (await getSource(db, name)).id);
  if (!live) throw new TypeError('no live space');
  const { epoch, space } = live;
  const models = {
    to: undefined as string | undefined,
    at: (at: number) => [space.fingerprint, models.to, space.fingerprint][at - epoch],
  };
  return models;
}

function appOf(table: Table, modelAt: AppOptions['modelAt']): AppOptions {
  return { source: table.name, write: table.write, search: table.search, modelAt };
}

/** Runs `act`, with locks and replica watched. */
async function observed<T>(
  lab: Lab,
  url: string,
  act: () => Promise<T>,
): Promise<{ result: T; lock: LockWait; lags: readonly Lag[] }> {
  const locks = watchLocks(await lab.client(url), { of: APP, lookMs: LOOK_MS.locks });
  const lag = watchLag(await lab.client(url), LOOK_MS.lag);
  const result = await act();
  return { result, lock: await locks.stop(), lags: await lag.stop() };
}

/** From the start to a while after the switch, with the app going on. */
async function migrate(
  lab: Lab,
  db: Database,
  client: Client,
  { table, store }: { table: Table; store: StoreKind },
  app: App,
): Promise<{ watched: Watched; fresh: number[]; switchMs: number; seen: Seen }> {
  const running = app.start(RATES);
  await migrationAt(lab, db, table.name, ['backfilling', 'indexing', 'verifying', 'ready']);
  const probe = editProbe(client, table, store);
  const filled = await migrationAt(lab, db, table.name, ['indexing', 'verifying', 'ready']);
  const fresh = await probe.stop();
  const { status } = await migrationAt(lab, db, table.name, ['ready']);
  lab.say('the switch');
  const switchMs = await timed(() => cutover(db, table.name));
  await new Promise((resolve) => setTimeout(resolve, WARM_UP_SECONDS * 1000));
  const seen = await running.stop();
  return { watched: { ...filled, status }, fresh, switchMs, seen };
}

/** Waits until nothing is on its way to any space. */
async function settled(client: Client): Promise<void> {
  const waiting = 'SELECT FROM freshvec.change_key UNION ALL SELECT FROM freshvec.lease LIMIT 1';
  while ((await client.query(waiting)).rowCount !== 0) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS.settled));
  }
}

/** In the space that is live: its vector is missing, or not that of its text. */
async function staleRows(client: Client, table: Table): Promise<number> {
  const { rows } = await client.query<{ n: string }>(
    `SELECT count(*) AS n FROM ${table.name} WHERE embedding IS NULL OR embedding_hash IS DISTINCT FROM md5(body)::uuid`,
  );
  return Number(rows[0]?.n);
}

function backfillFigures({ status, meanShare, pressed }: Watched): Figure[] {
  const seconds = secondsIn(status, 'backfilling');
  return [
    { what: 'rows backfilled beside the app', value: status.rows / seconds, unit: '/s' },
    { what: 'part of the time that the throttle allowed, mean', value: meanShare, unit: '' },
    ...[...pressed].map(
      ([name, { looks, last }]): Figure => ({
        what: `looks at which ${name} held it back (${last})`,
        value: looks.length,
        unit: '',
      }),
    ),
    { what: 'index built in', value: secondsIn(status, 'indexing') * 1000, unit: 'ms' },
  ];
}

function appFigures(
  before: readonly Sample[],
  during: readonly Sample[],
  { status, pressed }: Pick<Watched, 'status' | 'pressed'>,
): Figure[] {
  const ofState = (state: string) => {
    const times = timesIn(status, state);
    return during.filter(({ at }) => times.some(({ from, to }) => at >= from && at < to));
  };
  const [filling, indexing] = [ofState('backfilling'), ofState('indexing')];
  const vacuumed = pressed.get('vacuum')?.looks ?? [];
  const besideVacuum = ({ at }: Sample) => vacuumed.some((look) => Math.abs(look - at) <= STATUS_LOOK_MS);
  const p99 = (samples: readonly Sample[], kind?: Sample['kind']) =>
    quantile(
      samples.filter((sample) => kind === undefined || sample.kind === kind).map(({ ms }) => ms),
      0.99,
    );
  const kinds = ['write', 'search'] as const;
  const row = (when: string, samples: readonly Sample[]): Figure[] => [
    ...kinds.map(
      (kind): Figure => ({ what: `p99 of an app's ${kind}, ${when}`, value: p99(samples, kind), unit: 'ms' }),
    ),
    { what: `p99 of the app, ${when}`, value: p99(samples), unit: 'ms' },
  ];
  return [
    ...row('before', before),
    ...row('while backfilling', filling),
    ...row('while backfilling beside a vacuum', filling.filter(besideVacuum)),
    ...row(
      'while backfilling without one',
      filling.filter((sample) => !besideVacuum(sample)),
    ),
    ...row('while the index is built', indexing),
    { what: 'p99 of the app, while backfilling / before', value: p99(filling) / p99(before), unit: '×', atMost: 1.5 },
    { what: 'p99 of the app, while the index is built / before', value: p99(indexing) / p99(before), unit: '×' },
  ];
}

function lagFigures(lags: readonly Lag[], status: MigrationStatus): Figure[] {
  const times = timesIn(status, 'backfilling');
  const filling = lags.filter(({ at }) => times.some(({ from, to }) => at >= from && at < to));
  const seconds = (some: readonly Lag[]) => Math.max(...some.map((lag) => lag.seconds));
  return [
    {
      what: 'the replica behind while backfilling, at most',
      value: seconds(filling) * 1000,
      unit: 'ms',
      atMost: LAG_BOUND_SECONDS * 1000,
    },
    { what: 'the same in MB', value: Math.max(...filling.map(({ bytes }) => bytes)) / 2 ** 20, unit: 'MB' },
    { what: 'the replica behind at any time', value: seconds(lags) * 1000, unit: 'ms' },
  ];
}

/**
 * A backfill into a table without a vector index, with nothing beside it, against a first load of the same model, the
 * seconds that the throttle takes to open included.
 */
async function speed(lab: Lab, rows: number): Promise<Figure[]> {
  const url = await lab.postgres();
  const db = lab.database(url);
  await prepare(db);
  const ingests: number[] = [];
  const loads: number[] = [];
  const fills: number[] = [];
  const atFull: number[] = [];
  for (let i = 0; i <= SPEED_REPETITIONS; i++) {
    const loader = await WorkerProcess.start(lab, { url, mode: 'drain' });
    const ingestMs = await firstLoad(db, loader, { table: `ingest_${i}`, rows: INGEST_ROWS, model: INGEST_MODEL });
    const loadMs = await firstLoad(db, loader, { table: `load_${i}`, rows, model: TO });
    await firstLoad(db, loader, { table: `fill_${i}`, rows, model: FROM });
    await loader.stop();
    await db.exec(`VACUUM ANALYZE fill_${i}`);
    await db.exec('CHECKPOINT');
    const worker = await WorkerProcess.start(lab, { url, mode: 'serve', reembed: true });
    await startMigration(db, `fill_${i}`, TO);
    const watched = await migrationAt(lab, db, `fill_${i}`, ['ready']);
    const { status, pressed } = watched;
    await worker.stop();
    const fillMs = secondsIn(status, 'backfilling') * 1000;
    const held = [...pressed.values()].map(({ looks, last }) => `${last} (${looks.length})`);
    lab.say(
      `${i} of ${SPEED_REPETITIONS}: ${[`load ${loadMs.toFixed(0)} ms, backfill ${fillMs.toFixed(0)} ms`, ...held].join('; ')}`,
    );
    if (i === 0) continue; // To warm up.
    ingests.push(ingestMs);
    loads.push(loadMs);
    fills.push(fillMs);
    atFull.push(rateAtFull(watched));
  }
  const perSecond = (count: number, ms: readonly number[]) => (count / median(ms)) * 1000;
  const fill = perSecond(rows, fills);
  return [
    { what: `first load of bench/ingest, ${INGEST_MODEL}`, value: perSecond(INGEST_ROWS, ingests), unit: '/s' },
    { what: `first load of as many rows, ${TO}`, value: perSecond(rows, loads), unit: '/s' },
    { what: 'backfill beside nothing, from its first row', value: fill, unit: '/s' },
    { what: 'backfill beside nothing, once the throttle is open', value: median(atFull), unit: '/s' },
    {
      what: 'backfill / first load of bench/ingest',
      value: fill / perSecond(INGEST_ROWS, ingests),
      unit: '×',
      atLeast: 0.8,
    },
    { what: 'backfill / first load of the same model', value: fill / perSecond(rows, loads), unit: '×' },
  ];
}

/** Rows a second from when the throttle was open. NaN where the backfill was over before. */
function rateAtFull({ status, opened }: Watched): number {
  const end = timesIn(status, 'backfilling').at(-1)?.to;
  if (opened === undefined || end === undefined) return Number.NaN;
  return ((status.rows - opened.done) / (end - opened.at)) * 1000;
}

function sum<T>(items: readonly T[], of: (item: T) => number): number {
  return items.reduce((total, item) => total + of(item), 0);
}
