import { setTimeout as sleep } from 'node:timers/promises';
import { Queue as BullQueue, type IQueueBackend, type Job, Worker } from 'bullmq';
import { FreshvecError } from '../db/errors.js';
import type { QueueBackend } from './backend.js';
import type { DrainJob, MaintenanceService, Queue, QueueHandlers, ReembedJob } from './port.js';

interface MaintainJob {
  readonly service: MaintenanceService;
}

type Jobs<Data> = BullQueue<Data, void, string, Data, void, string, IQueueBackend>;
type Handler<Data> = (data: Data, signal: AbortSignal) => Promise<void>;
type AnyJob = DrainJob | MaintainJob | ReembedJob;
type Workers = Worker<AnyJob, void, string, IQueueBackend>;

const DRAIN = 'freshvec-drain';
const MAINTAIN = 'freshvec-maintain';
const REEMBED = 'freshvec-reembed';
/** Migrations that one process works on at a time. */
const REEMBEDS = 8;

/** `wake` gives up after this long. */
const WAKE_MS = 1_200;
/** How long opening waits for the queue to answer, before it goes on without. */
const READY_MS = 2_000;
/** `obliterate` gives up after this long. */
const OBLITERATE_MS = 10_000;
/** How long closing waits for BullMQ, once no handler runs any more, before it ends the connections under it. */
const CLOSE_MS = 3_000;

/** A killed worker's job is free after at most `lockDuration` + `stalledInterval`: 15 s. */
const WORKER = {
  lockDuration: 10_000,
  stalledInterval: 5_000,
  maxStalledCount: 1_000_000,
  runRetryDelay: 1_000,
  removeOnComplete: { count: 0 },
  removeOnFail: { count: 10 },
};
const PRODUCER = {
  defaultJobOptions: { removeOnComplete: true, removeOnFail: 10 },
  streams: { events: { maxLen: 100 } },
};
/** The factories bring their own connections; BullMQ insists on an option of this name. */
const CONNECTION = { connection: {} };

/** The one implementation of the port. A BullMQ queue for each kind of job: drains run N at a time, maintenance one by one. */
export class BullmqQueue implements Queue {
  readonly backend: QueueBackend['kind'];
  readonly #backend: QueueBackend;
  readonly #onError: (error: unknown) => void;
  readonly #name: string | undefined;
  readonly #drains: Jobs<DrainJob>;
  readonly #maintenance: Jobs<MaintainJob>;
  readonly #reembeds: Jobs<ReembedJob>;
  readonly #workers: Workers[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  #ready = false;
  #closed: Promise<void> | undefined;

  constructor(backend: QueueBackend, name: string | undefined, onError: (error: unknown) => void) {
    this.backend = backend.kind;
    this.#backend = backend;
    this.#name = name;
    this.#onError = onError;
    this.#drains = this.#producer(DRAIN);
    this.#maintenance = this.#producer(MAINTAIN);
    this.#reembeds = this.#producer(REEMBED);
  }

  /** Waits a moment for the queue to answer; when it does not, it is used as soon as it does. */
  async start(): Promise<void> {
    const queues = [this.#drains, this.#maintenance, this.#reembeds];
    const ready = Promise.all(queues.map((queue) => queue.waitUntilReady())).then(() => {
      this.#ready = true;
    });
    await within(READY_MS, ready).catch(this.#onError);
  }

  wake({ spaceId, slot }: DrainJob): Promise<boolean> {
    const deduplication = { id: `drain-${spaceId}-${slot}`, keepLastIfActive: true };
    return this.#add(() => this.#drains.add('drain', { spaceId, slot }, { deduplication }));
  }

  wakeReembed({ migrationId }: ReembedJob): Promise<boolean> {
    const deduplication = { id: `reembed-${migrationId}` };
    return this.#add(() => this.#reembeds.add('reembed', { migrationId }, { deduplication }));
  }

  async #add(add: () => Promise<unknown>): Promise<boolean> {
    if (!this.#ready || this.#closed !== undefined) return false;
    try {
      await within(WAKE_MS, add());
      return true;
    } catch (error) {
      this.#onError(error);
      return false;
    }
  }

  async work(handlers: Partial<QueueHandlers>, { concurrency }: { concurrency: number }): Promise<void> {
    if (this.#workers.length > 0) throw new FreshvecError('queue_working', 'This queue is being worked on already.');
    const { drain, maintain, reembed } = handlers;
    if (drain) this.#consume<DrainJob>(DRAIN, concurrency, (job, signal) => drain(job, signal));
    if (maintain) this.#consume<MaintainJob>(MAINTAIN, 1, ({ service }, signal) => maintain(service, signal));
    if (reembed) this.#consume<ReembedJob>(REEMBED, REEMBEDS, (job, signal) => reembed(job, signal));
    const ready = Promise.all(this.#workers.map((worker) => worker.waitUntilReady()));
    await within(READY_MS, ready).catch(this.#onError);
  }

  /** When the queue cannot be reached this is reported, not thrown: maintenance calls it again. */
  async schedule(everyMs: Partial<Record<MaintenanceService, number>>): Promise<void> {
    try {
      if (!this.#ready) throw new FreshvecError('queue_unreachable', 'The queue does not answer: no schedules yet.');
      await within(WAKE_MS * 4, this.#ensureSchedules(everyMs));
    } catch (error) {
      this.#onError(error);
    }
  }

  async obliterate(): Promise<void> {
    if (!this.#ready) throw new FreshvecError('queue_unreachable', 'The queue does not answer.');
    const queues = [this.#drains, this.#maintenance, this.#reembeds];
    await within(
      OBLITERATE_MS,
      Promise.all(queues.map((queue) => queue.obliterate({ force: true }))).then(() => {}),
    );
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #ensureSchedules(everyMs: Partial<Record<MaintenanceService, number>>): Promise<void> {
    const existing = await this.#maintenance.getJobSchedulers();
    const wanted = new Map<string, number>(Object.entries(everyMs));
    for (const { key } of existing) if (!wanted.has(key)) await this.#maintenance.removeJobScheduler(key);
    for (const [service, every] of wanted) {
      const found = existing.find(({ key }) => key === service);
      // One that is long overdue has no worker, or has lost its job: making it again mends the latter.
      const overdue = (found?.next ?? 0) < Date.now() - every - WORKER.lockDuration - WORKER.stalledInterval;
      if (found?.every === every && !overdue) continue;
      const data = { service: service as MaintenanceService };
      await this.#maintenance.upsertJobScheduler(service, { every }, { name: 'maintain', data });
    }
  }

  #producer<Data>(name: string): Jobs<Data> {
    const queue: Jobs<Data> = new BullQueue(name, { ...CONNECTION, ...PRODUCER }, this.#backend.producer);
    queue.on('error', this.#onError);
    return queue;
  }

  #consume<Data extends AnyJob>(name: string, concurrency: number, handler: Handler<Data>): void {
    const naming = this.#name === undefined ? {} : { name: this.#name };
    const handle = (job: Job<Data>) => this.#handle(handler, job.data);
    const options = { ...CONNECTION, ...WORKER, ...naming, concurrency };
    const worker = new Worker<Data, void, string, IQueueBackend>(name, handle, options, this.#backend.consumer);
    worker.on('error', this.#onError);
    this.#workers.push(worker as unknown as Workers);
  }

  /** A job is done even when its handler throws: what is left to do stands in Postgres. */
  async #handle<Data>(handler: Handler<Data>, data: Data): Promise<void> {
    if (this.#stop.signal.aborted) return;
    const run = handler(data, this.#stop.signal).catch(this.#onError);
    this.#running.add(run);
    await run;
    this.#running.delete(run);
  }

  async #close(): Promise<void> {
    this.#stop.abort();
    const closing = this.#workers.map((worker) => worker.pause(true));
    await Promise.allSettled(closing);
    while (this.#running.size > 0) await Promise.all(this.#running);
    await this.#backend.beforeClose();
    const quietly = (close: Promise<unknown>) => within(CLOSE_MS, close).catch(this.#onError);
    await Promise.all(this.#workers.map((worker) => quietly(worker.close())));
    await Promise.all([this.#drains, this.#maintenance, this.#reembeds].map((queue) => quietly(queue.close())));
    await within(CLOSE_MS, this.#backend.close()).catch(this.#onError);
  }
}

/** The promise, or a FreshvecError after `ms`. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T> {
  const timer = new AbortController();
  const late = sleep(ms, undefined, { signal: timer.signal }).then((): never => {
    throw new FreshvecError('queue_unreachable', `The queue did not answer within ${ms} ms.`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    late.catch(() => undefined);
    timer.abort();
  }
}
