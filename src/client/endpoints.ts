import { getSourceById } from '../catalog/source.js';
import { getSpace } from '../catalog/space.js';
import { FreshvecError } from '../db/errors.js';
import { shared } from '../observe/deadline.js';
import { startHttp, type Verdict } from '../observe/http.js';
import type { Log } from '../observe/log.js';
import { type Drained, Metrics, type StageObserver } from '../observe/metrics.js';
import { judgeFreshness, type Readings } from '../observe/readings.js';
import type { DrainReport } from '../stages/context.js';
import { readSources } from '../status/readings.js';
import type { Models } from '../worker/models.js';
import type { Connection } from './connection.js';
import { observedModels } from './observed-models.js';

/** What a process of the fleet tells of itself over HTTP, from before its roles start until they have stopped. */
export interface Endpoints {
  /** Where it listens. */
  readonly port: number;
  /** Told by the stages of what they do. */
  readonly observer: StageObserver;
  /** The models of a role, so that their requests are timed and their failures counted. */
  observe(models: Models): Models;
  /** The roles run: `/readyz` may say so. */
  started(): void;
  /** Counts what a drain did. */
  drained(spaceId: number, report: DrainReport): void;
  stop(): Promise<void>;
}

/** The database is read at most so often for scrapes and probes, however many ask, in ms. */
const READ_EVERY_MS = 5_000;
const STATEMENT_MS = 2_000;
/** What one scrape waits for the database, in ms, and the part of it in which sources are begun. */
const READ_MS = 7_000;
const READ_BUDGET_MS = 4_000;
const PING_EVERY_MS = 1_000;
const PING_MS = 2_000;

/**
 * Serves metrics and health of this process as `http` in the configuration says. `/readyz` is 503 from the moment that
 * `stop` aborts. Throws ConfigError where the port cannot be had.
 */
export async function openEndpoints(connection: Connection, log: Log, stop: AbortSignal): Promise<Endpoints> {
  const { http, freshness, spend } = connection.config;
  const onError = (err: unknown) => log.warn({ err }, 'a scrape or probe could not be answered in full');
  const read = shared(
    async (): Promise<Readings> =>
      readSources(await connection.ready(), { statementMs: STATEMENT_MS, budgetMs: READ_BUDGET_MS, onError }),
    { keepMs: READ_EVERY_MS, waitMs: READ_MS, what: 'Reading the sources' },
  );
  const ping = shared(async () => (await connection.ready()).query('SELECT 1'), {
    keepMs: PING_EVERY_MS,
    waitMs: PING_MS,
    what: 'The database',
  });
  const metrics = new Metrics({ read, capPerDay: spend.perDay, onError });
  const namesOf = spaceNames(connection);
  let started = false;

  const server = await startHttp({
    ...http,
    boundSeconds: freshness.boundSeconds,
    onError,
    metrics: async () => ({ contentType: metrics.contentType, text: await metrics.text() }),
    async ready(): Promise<Verdict> {
      if (stop.aborted) return notReady('stopping');
      if (!started) return notReady('starting');
      return ping().then(
        () => ({ ok: true, body: { status: 'ready' } }),
        () => notReady('database_unreachable'),
      );
    },
    async fresh(boundSeconds): Promise<Verdict> {
      try {
        const verdict = judgeFreshness(await read(), boundSeconds);
        return { ok: verdict.status === 'fresh', body: verdict };
      } catch (error) {
        onError(error);
        return notReady('database_unreachable');
      }
    },
  });
  log.info({ host: http.host, port: server.port }, 'serving metrics and health');

  return {
    port: server.port,
    observer: metrics,
    observe: (models) => observedModels(models, metrics),
    started() {
      started = true;
    },
    drained(spaceId, { claimed, ...report }) {
      if (claimed === 0 && Object.values(report).every((count) => count === 0)) return;
      namesOf(spaceId)
        .then((names) => metrics.drained({ ...names, ...report }))
        .catch(onError);
    },
    stop: server.stop,
  };
}

function notReady(status: 'starting' | 'stopping' | 'database_unreachable'): Verdict {
  return { ok: false, body: { status } };
}

/** A space keeps its source and its fingerprint, so each is looked up once. */
function spaceNames(connection: Connection): (spaceId: number) => Promise<Pick<Drained, 'source' | 'model'>> {
  const known = new Map<number, Promise<Pick<Drained, 'source' | 'model'>>>();
  const lookUp = async (spaceId: number) => {
    const db = await connection.ready();
    const space = await getSpace(db, spaceId);
    const source = space && (await getSourceById(db, space.sourceId));
    if (!space || !source)
      throw new FreshvecError('source_unknown', `The source of space ${spaceId} was just removed.`);
    return { source: source.name, model: space.fingerprint };
  };
  return (spaceId) => {
    const names = known.get(spaceId) ?? lookUp(spaceId);
    known.set(spaceId, names);
    names.catch(() => known.delete(spaceId));
    return names;
  };
}
