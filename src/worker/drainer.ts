import type { Gates } from '../budget/gates.js';
import { loadShare } from '../catalog/migration.js';
import { pauseOf, pauseWork } from '../catalog/pause.js';
import { getSourceById } from '../catalog/source.js';
import { getSpace, MAINTAINED_STATES, payingTwin, type Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { FreshvecError, sqlState } from '../db/errors.js';
import type { Priority } from '../embed/gate.js';
import { EmbedError, NEEDS_PERSON } from '../embed/port.js';
import type { StageObserver } from '../observe/metrics.js';
import { drain, giveBack } from '../pipeline.js';
import { readUpdateTriggers } from '../source/hazards.js';
import { type DrainContext, type DrainReport, emptyReport } from '../stages/context.js';
import { FIRST_WRITE, restartPaces } from '../stages/pace.js';
import { openStore } from '../store/index.js';
import { indexCost } from '../store/index-state.js';
import { type VectorCodec, vectorCodec } from '../store/vector-codec.js';
import { BROKEN_REST_MS, isOfThisProcess, isOutdated, isRenamed } from './drain-errors.js';
import { LeaseKeeper } from './lease-keeper.js';
import type { Models } from './models.js';
import { Probes } from './probes.js';
import { newRowsRun, type RowsRun } from './rows-run.js';
import { newSpaceRun, rest, restAfterFailure, type SpaceRun } from './space-run.js';

export interface DrainerOptions {
  readonly db: Database;
  readonly models: Models;
  readonly gates: Gates;
  /** Whether vectors are taken from the cache and put there. */
  readonly cached?: boolean | undefined;
  readonly observer?: StageObserver | undefined;
  /** `host:pid`, for the lease rows. */
  readonly worker: string;
  /** Keys claimed, read and embedded together. */
  readonly batchKeys: number;
}

export interface DrainRun {
  readonly stop: AbortSignal;
  readonly cut: AbortSignal;
  readonly moreThanOne?: (priority: Priority) => void;
}

/** How long a space rests after a provider failure that named no time, in ms. */
const COOL_DOWN_MS = 1000;
/** A longer pause is the account's, in Postgres, and is looked up there again after so long, in ms: `resume` may end it. */
const REST_LOOK_MS = 5000;

/** How long the catalog's word on a space is good for, in ms; a write checks that the source still means the same. */
const CATALOG_MS = 1000;
/** How often the index of a space that is being drained is looked at, in ms: a build may begin at any time. */
const INDEX_LOOK_MS = 1000;
/** How long it holds that a space is not paused, in ms: a little less than between two looks at what changes a drain. */
const PAUSE_LOOK_MS = 900;

/** Runs drains of any space in this process and keeps their leases alive. */
export class Drainer {
  private readonly spaces = new Map<number, SpaceRun>();
  private readonly rows = new Map<string, RowsRun>();
  private readonly parkedIn = new Map<number, DrainContext>();
  private readonly leases: LeaseKeeper;
  private readonly probes: Probes;
  private codec: VectorCodec | undefined;

  constructor(private readonly options: DrainerOptions) {
    this.leases = new LeaseKeeper(options.db);
    this.probes = new Probes(options.db, options.gates);
  }

  /** Ms until the space may be drained again; 0 when now. */
  restsMs(spaceId: number): number {
    return Math.max(0, (this.spaces.get(spaceId)?.restUntil ?? 0) - performance.now());
  }

  /** Ms until pages of the space's first load may be claimed again, should that be all there is; 0 when now. */
  loadRestsMs(spaceId: number): number {
    return this.runOf(spaceId).load.restMs();
  }

  /** Looks at everything again in the next drain, late commits and silent workers included. */
  lookAgain(): void {
    for (const { cursor } of this.spaces.values()) cursor.lookAgain();
  }

  /** Drains one space, as one of its slots. A failure that a person must mend is thrown, and the space rests. */
  async drain(spaceId: number, run: DrainRun, report: DrainReport = emptyReport()): Promise<DrainReport> {
    if (this.restsMs(spaceId) > 0) return report;
    const paused = new AbortController();
    const context = await this.open(spaceId, { ...run, stop: AbortSignal.any([run.stop, paused.signal]) }, report);
    if (!context) {
      await this.giveBackParked(spaceId);
      return report;
    }
    if (this.restsMs(spaceId) > 0) return report;
    const state = this.runOf(spaceId);
    const { running } = state;
    const { written } = report;
    running.add(paused);
    const watch = setInterval(() => void this.follow(context).catch(() => {}), INDEX_LOOK_MS);
    try {
      const { coolDownMs } = await drain(context, this.leases);
      if (report.written > written) state.refusals = 0;
      if (coolDownMs !== undefined) this.coolDown(spaceId, coolDownMs);
    } catch (error) {
      state.opened = undefined;
      if (report.written > written) state.refusals = 0;
      // What was claimed is given back, and the next drain looks the space up again.
      if (run.cut.aborted || isRenamed(error) || (await isOutdated(this.options.db, context.store, error)))
        return report;
      // A pause rests every worker, and is over once somebody resumes the source.
      const recorded = error instanceof EmbedError && (await this.pause(context.store.space, error));
      if (!recorded) restAfterFailure(state, error);
      throw error;
    } finally {
      clearInterval(watch);
      running.delete(paused);
      if (context.parked.length > 0) this.parkedIn.set(spaceId, context);
      else this.parkedIn.delete(spaceId);
    }
    return report;
  }

  /** Spaces whose vectors wait here to be written, and which want another drain for that. */
  parkedSpaces(): number[] {
    return [...this.parkedIn.keys()];
  }

  /** Resolves once no visit of many pages goes on beside the space's drains. */
  longVisitEnded(spaceId: number): Promise<void> {
    return this.runOf(spaceId).longVisit.ended();
  }

  /** Gives back what is parked, and ends visits of many pages. No drain may run any more. */
  async close(): Promise<void> {
    for (const spaceId of [...this.parkedIn.keys()]) await this.giveBackParked(spaceId);
    await Promise.all([...this.spaces.values()].map(({ longVisit }) => longVisit.end()));
    this.leases.close();
  }

  private async giveBackParked(spaceId: number): Promise<void> {
    const context = this.parkedIn.get(spaceId);
    if (!context) return;
    this.parkedIn.delete(spaceId);
    const tokens = context.parked.splice(0).map(({ token }) => token);
    await giveBack(context, tokens, this.leases);
  }

  private coolDown(spaceId: number, ms: number): void {
    rest(this.runOf(spaceId), Math.min(Math.max(ms, COOL_DOWN_MS), REST_LOOK_MS));
  }

  private runOf(spaceId: number): SpaceRun {
    const run = this.spaces.get(spaceId) ?? newSpaceRun(FIRST_WRITE.indexed);
    this.spaces.set(spaceId, run);
    return run;
  }

  /** Spaces whose vectors are on the source's rows write to the same ones. */
  private rowsOf({ id, sourceId, store }: Space): RowsRun {
    const rows = store === 'column' ? `source ${sourceId}` : `space ${id}`;
    const run = this.rows.get(rows) ?? newRowsRun();
    this.rows.set(rows, run);
    return run;
  }

  /** What a drain needs; undefined when the space or its source is no more, or paused. */
  private async open(spaceId: number, run: DrainRun, report: DrainReport): Promise<DrainContext | undefined> {
    const { db, worker, batchKeys, gates, observer } = this.options;
    const state = this.runOf(spaceId);
    if (performance.now() - (state.opened?.at ?? Number.NEGATIVE_INFINITY) > CATALOG_MS) {
      state.opened = await this.lookUp(spaceId, run.cut);
    }
    if (!state.opened) return undefined;
    const { store, model } = state.opened;
    await this.followIndex({ store });
    const rows = this.rowsOf(store.space);
    return {
      db,
      store,
      model,
      gate: gates.for(model, { source: store.source.name, spaceId, purpose: 'rows' }),
      cached: this.options.cached === true && !model.spec.startsWith('static/'),
      worker,
      batchKeys,
      cursor: state.cursor,
      pace: state.pace,
      staying: state.staying,
      indexed: () => state.indexed,
      appTriggers: () => state.appTriggers,
      load: state.load,
      longVisit: state.longVisit,
      copyFrom: state.opened.copyFrom,
      parked: state.parked,
      writeGate: (priority, write) => {
        if (state.indexed === 'none') return write();
        const inTurn = () => rows.turn(priority, write);
        // A space that takes vectors over does not write what it visits; the others do not wait for that.
        return store.space.adoption === 'open' ? state.visits(inTurn) : inTurn();
      },
      visitGate: (visit) => (state.indexed === 'none' ? visit() : state.visits(visit)),
      waiting: rows.waiting,
      stop: run.stop,
      cut: run.cut,
      report,
      observer,
      moreThanOne: run.moreThanOne ?? (() => {}),
    };
  }

  /** Store and model of a space, as the catalog has them now. */
  private async lookUp(spaceId: number, signal: AbortSignal): Promise<SpaceRun['opened']> {
    const { db, models, gates } = this.options;
    const at = performance.now();
    const space = await getSpace(db, spaceId);
    const source = space && (await getSourceById(db, space.sourceId));
    if (!space || !source || !MAINTAINED_STATES.includes(space.state)) return undefined;
    if (await this.isPaused(space)) return undefined;
    this.codec ??= await this.openCodec();
    const { codec } = this;
    const store = openStore(source, space, codec);
    this.runOf(spaceId).load.follow(await loadShare(db, spaceId));
    const twin = await payingTwin(db, space);
    const copyFrom = twin && openStore(source, twin, codec);
    try {
      const model = await models.forSpace(space);
      const restMs = copyFrom ? 0 : await gates.restMs(model);
      if (restMs > 0) this.coolDown(spaceId, restMs);
      else if (!copyFrom) await this.probes.check(model, store, signal);
      return { at, store, model, copyFrom };
    } catch (error) {
      const delay = error instanceof EmbedError && !NEEDS_PERSON.has(error.failure);
      const recorded = error instanceof EmbedError && !delay && (await this.pause(space, error));
      if (delay) this.coolDown(spaceId, error.details.retryAfterMs ?? 0);
      else if (!recorded) rest(this.runOf(spaceId), sqlState(error) === undefined ? BROKEN_REST_MS : COOL_DOWN_MS);
      throw error;
    }
  }

  /** Looks, while a drain goes on, for what changes it: an index that is being built, a pause. */
  private async follow(context: DrainContext): Promise<void> {
    const { space } = context.store;
    await this.isPaused(space);
    context.load.follow(await loadShare(this.options.db, space.id));
    await this.followIndex(context);
  }

  /** Asked once a second, for all slots together, all of whose drains a pause ends. */
  private async isPaused({ id, sourceId }: Space): Promise<boolean> {
    const state = this.runOf(id);
    if (performance.now() - state.workedOnAt < PAUSE_LOOK_MS) return false;
    state.workedOnAt = performance.now();
    if ((await pauseOf(this.options.db, { sourceId, spaceId: id })) === undefined) return false;
    state.workedOnAt = Number.NEGATIVE_INFINITY;
    state.opened = undefined;
    for (const drain of state.running) drain.abort();
    return true;
  }

  /** Writes start small where they pay for an index, be it that of another space on the same rows. */
  private async followIndex({ store: { source, space } }: Pick<DrainContext, 'store'>): Promise<void> {
    const state = this.runOf(space.id);
    if (performance.now() - state.indexLookedAt < INDEX_LOOK_MS) return;
    state.indexLookedAt = performance.now();
    const { db } = this.options;
    const indexed = await indexCost(db, source, space);
    state.appTriggers = space.store === 'column' && (await readUpdateTriggers(db, source.relation.oid)).length > 0;
    if (indexed === state.indexed) return;
    state.indexed = indexed;
    restartPaces(state.pace, state.staying, indexed);
  }

  /**
   * Has every worker leave the space alone, and says why: its money, or the day's, is spent, or a person must see to it.
   * The source's other spaces go on: a migration's trouble is not that of the live one. Resolves to whether that was
   * recorded: not where only this process is to rest, or the database is away.
   */
  private async pause({ id, sourceId }: Space, error: EmbedError): Promise<boolean> {
    if (isOfThisProcess(error)) return false;
    const { failure, message, details } = error;
    const kind = failure === 'spend_cap' ? 'spend' : 'provider';
    // Money that is spent for good is waited for until somebody gives more.
    const pauseMs = details.retryAfterMs ?? (kind === 'spend' ? undefined : BROKEN_REST_MS);
    const seconds = pauseMs === undefined ? undefined : pauseMs / 1000;
    return pauseWork(this.options.db, { sourceId, spaceId: id }, { kind, reason: message, seconds }).then(
      () => true,
      () => false,
    );
  }

  private async openCodec(): Promise<VectorCodec> {
    const extension = await this.options.db.vectorExtension();
    if (extension) return vectorCodec(this.options.db, extension);
    throw new FreshvecError('pgvector_missing', 'pgvector is not installed in this database: CREATE EXTENSION vector.');
  }
}
