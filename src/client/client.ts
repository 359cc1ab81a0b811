import { type SpendOptions, type SpendReport, spendReport } from '../budget/spend-report.js';
import { enqueue, type KeyInput, type QueryClient } from '../capture/index.js';
import { grantSql, grantTo } from '../catalog/grant.js';
import { parseModelSpec } from '../catalog/model.js';
import type { Pause } from '../catalog/pause.js';
import { applySchema, type Migration, type SchemaStatus, schemaStatus } from '../catalog/schema.js';
import type { Config } from '../config/config.js';
import { loadConfig } from '../config/load.js';
import type { Database } from '../db/database.js';
import { createLog } from '../observe/log.js';
import { createAnnouncer, createPointerCache, type SearchRequest, type SearchResult, search } from '../search/index.js';
import { type Status, type StatusOptions, sourceStatus } from '../status/status.js';
import { type WaitOptions, waitUntilFresh } from '../status/wait-until-fresh.js';
import { budgetSettings, Connection } from './connection.js';
import { embedText, type TextVector } from './embed.js';
import { type FailuresApi, failuresApi } from './failures.js';
import { type MaintenanceApi, maintenanceApi } from './maintenance.js';
import { type ClientOptions, toLoadOptions } from './options.js';
import { type PauseOptions, pause, resume } from './pauses.js';
import { createRefuseChanged } from './recorded-changes.js';
import { type ReembedApi, reembedApi } from './reembed.js';
import { work } from './serve.js';
import { type SourcesApi, sourcesApi } from './sources.js';
import { type SpaceCoverage, spaceCoverage } from './space-coverage.js';
import { type Uninstalled, uninstall } from './uninstall.js';
import { type WorkOnceOptions, type WorkReport, workOnce } from './work-once.js';

/** freshvec from inside an app. Opens nothing until it is used; `close()` lets the process end. */
export interface Client {
  /**
   * Says that the rows with these keys may be stale, in the app's own transaction: `tx` is a node-postgres client, or
   * anything that answers `query(text, values)` as one does. Only needed where triggers cannot see the change, or with
   * `force`, which pays even for text that did not change. Resolves to the number of changes written.
   */
  enqueue(tx: QueryClient, source: string, keys: readonly KeyInput[], options?: { force?: boolean }): Promise<number>;
  /** The same in a transaction of its own. */
  enqueueNow(source: string, keys: readonly KeyInput[], options?: { force?: boolean }): Promise<number>;
  /**
   * The rows nearest to a text or vector, nearest first. Never compares vectors of two models: a text is refused with
   * EmbedError `embed_model_changed` while it is on record that the provider has put another model behind the name.
   */
  search(source: string, request: SearchRequest): Promise<SearchResult & SpaceCoverage>;
  /** How fresh each source is, and which providers rest. Exact below 100,000 rows, else estimated unless `exact`. */
  status(options?: StatusOptions): Promise<Status>;
  /** Resolves once the row's vector is that of its present text. Throws RowFailedError or FreshnessTimeoutError. */
  waitUntilFresh(source: string, key: KeyInput, options?: WaitOptions): Promise<void>;
  /** Embeds one text with a model, in this process. Throws EmbedError. */
  embed(spec: string, text: string, options?: { signal?: AbortSignal }): Promise<TextVector>;
  /** Drains until nothing is left that can be done, then builds missing indexes. */
  workOnce(options?: WorkOnceOptions): Promise<WorkReport>;
  /**
   * Runs workers, maintenance and migrations in this process until the signal aborts; an embedded database has no other
   * process. With a port in `http` it serves metrics and health meanwhile.
   */
  work(options: { readonly signal: AbortSignal }): Promise<void>;
  /**
   * Has no worker work on a source; its changes go on being noticed, and are embedded once it is resumed. Work that is in
   * hand is finished. A second pause replaces the first. Resolves to the pause that now lasts longest.
   */
  pause(source: string, options?: PauseOptions): Promise<Pause>;
  /**
   * Ends every pause of a source, those of the spend cap and its provider too, also a wait that the provider asked for;
   * workers go on within seconds. Resolves to whether there was one.
   */
  resume(source: string): Promise<boolean>;
  /**
   * What embedding has cost by day, source, model and purpose; searches and looks at models too, where they cost
   * anything. What other processes were charged in the last fifth of a second may be missing.
   */
  spend(options?: SpendOptions): Promise<SpendReport>;
  readonly sources: SourcesApi;
  readonly failures: FailuresApi;
  readonly reembed: ReembedApi;
  readonly maintenance: MaintenanceApi;
  readonly schema: {
    /** Brings freshvec's own schema up to date; may run twice, and at once. */
    apply(): Promise<{ applied: Migration[]; current: number }>;
    status(): Promise<SchemaStatus>;
    /**
     * Lets the role of an app enqueue, search and wait until a row is fresh, and nothing more; its rights on its own
     * tables are its own. Resolves to the SQL, which `dryRun` only shows. Throws FreshvecError `privilege_missing`.
     */
    grant(role: string, options?: { dryRun?: boolean }): Promise<string[]>;
  };
  /** Takes freshvec away: triggers, functions, its queues, its schema and, unless told otherwise, all vectors. */
  uninstall(options?: { dropVectors?: boolean }): Promise<Uninstalled>;
  /** The database itself, for the app's own SQL: an embedded one has no other door. */
  database(): Promise<Database>;
  config(): Promise<Config>;
  close(): Promise<void>;
}

/**
 * A client for one database. Settings come from the options, then the environment (DATABASE_URL, OPENAI_API_KEY, …),
 * then `freshvec.config.*`; they are read when the client is first used.
 */
export function createClient(options: ClientOptions = {}): Client {
  const onError = options.onError ?? createStderrReporter();
  return clientOver(
    async () => new Connection(await loadConfig(toLoadOptions(options)), onError, undefined, options.models),
  );
}

/**
 * A client over a connection that is made at its first use. `announces`: whether it tells the database which epoch it
 * searches with; false for one that ends with its first answer.
 */
export function clientOver(connect: () => Promise<Connection>, { announces = true } = {}): Client {
  const pointers = createPointerCache();
  const refuseChanged = createRefuseChanged();
  const announcer = announces ? createAnnouncer({ pointers }) : undefined;
  let opening: Promise<Connection> | undefined;
  const connection = (): Promise<Connection> => {
    opening ??= connect();
    return opening;
  };
  const ready = async () => (await connection()).ready();

  return {
    enqueue,
    enqueueNow: async (source, keys, force) => (await ready()).tx((tx) => enqueue(tx, source, keys, force)),
    async search(source, request) {
      const open = await connection();
      const to = { source, purpose: 'query' } as const;
      const db = await ready();
      const embedQuery = async (spec: string, text: string, fingerprint: string) => {
        await refuseChanged(db, fingerprint);
        // What this process has under that name may be another model: another revision, dtype or prefix.
        await open.models.forSpace({ spec, fingerprint, dimensions: parseModelSpec(spec).dimensions });
        return (await embedText(open, spec, text, { purpose: 'query', to })).vector;
      };
      const result = await search({ db, embedQuery, pointers, announcer }, source, request);
      return request.space === undefined ? result : { ...result, ...(await spaceCoverage(db, source, request.space)) };
    },
    status: async (statusOptions) => sourceStatus(await ready(), statusOptions),
    waitUntilFresh: async (source, key, wait) => waitUntilFresh(await ready(), source, key, wait),
    async embed(spec, text, { signal } = {}) {
      const to = { source: undefined, purpose: 'text' } as const;
      return embedText(await connection(), spec, text, { purpose: 'document', to, signal });
    },
    workOnce: async (work = {}) => workOnce(await connection(), work),
    async work({ signal }) {
      const open = await connection();
      await work(open, ['embed', 'maintain', 'reembed'], createLog(open.config.log.level), signal);
    },
    pause: async (source, pauseOptions = {}) => pause(await ready(), source, pauseOptions),
    resume: async (source) => resume(await ready(), source),
    async spend(spendOptions = {}) {
      const open = await connection();
      await open.flush();
      return spendReport(await ready(), spendOptions, budgetSettings(open.config));
    },
    sources: sourcesApi(connection),
    failures: failuresApi(ready),
    reembed: reembedApi(connection),
    maintenance: maintenanceApi(connection),
    schema: {
      async apply() {
        const open = await connection();
        return applySchema(await open.database(), { queueBackend: open.config.queue.backend });
      },
      status: async () => schemaStatus(await (await connection()).database()),
      async grant(role, { dryRun = false } = {}) {
        if (!dryRun) await grantTo(await ready(), role);
        return grantSql(role);
      },
    },
    uninstall: async ({ dropVectors = true } = {}) => uninstall(await connection(), { dropVectors }),
    database: async () => (await connection()).database(),
    config: async () => (await connection()).config,
    async close() {
      await announcer?.close();
      await (await opening?.catch(() => undefined))?.close();
    },
  };
}

function createStderrReporter(): (error: unknown) => void {
  const log = createLog('warn');
  return (err) => log.warn({ err }, 'an error that was survived');
}
