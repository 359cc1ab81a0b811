import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import type { Database } from '../../src/db/database.js';
import { openModel } from '../../src/embed/open.js';
import type { EmbeddingModel } from '../../src/embed/port.js';
import { createPointerCache } from '../../src/search/pointer-cache.js';
import type { EmbedQuery } from '../../src/search/query-vectors.js';
import type { SearchRequest } from '../../src/search/request.js';
import { search } from '../../src/search/search.js';
import type { Lab } from './lab.js';

/** The application_name of all its connections. */
export const APP = 'bench-app';

/** Connections for writes, and as many for searches. */
const CONNECTIONS = 8;
/** Statements of one kind under way at a time; what comes then waits, as in an app's pool. */
const MOST_UNDER_WAY = 64;

export interface AppOptions {
  readonly source: string;
  /** The n-th write. */
  readonly write: (n: number) => { readonly name: string; readonly text: string; readonly values: unknown[] };
  /** The n-th search. */
  readonly search: (n: number) => SearchRequest;
  /** Fingerprint of the model that the source is searched with at an epoch. */
  readonly modelAt: (epoch: number) => string | undefined;
}

export interface Rates {
  readonly writes: number;
  readonly searches: number;
}

/** One statement of the app. */
export interface Sample {
  readonly kind: 'write' | 'search';
  /** Unix time at which it was sent, in ms. */
  readonly at: number;
  readonly ms: number;
}

/** What the app saw. */
export interface Seen {
  readonly samples: Sample[];
  failed: number;
  /** Searches with a hit that another model made than the one that the pointer named. */
  mixed: number;
  /** Searches that found fewer than they asked for. */
  short: number;
}

export interface RunningApp {
  stop(): Promise<Seen>;
}

/** An app that writes through plain connections and searches through freshvec, at fixed rates a second until stopped. */
export class App {
  private constructor(
    private readonly lab: Lab,
    private readonly db: Database,
    private readonly clients: readonly Client[],
    private readonly options: AppOptions,
  ) {}

  static async open(lab: Lab, url: string, options: AppOptions): Promise<App> {
    const clients = await Promise.all(Array.from({ length: CONNECTIONS }, () => lab.client(url, APP)));
    return new App(lab, lab.database(url, CONNECTIONS, APP), clients, options);
  }

  start(rates: Rates): RunningApp {
    const seen: Seen = { samples: [], failed: 0, mixed: 0, short: 0 };
    const stopped = new AbortController();
    const loops = [
      atRate(rates.writes, stopped.signal, this.counted('write', seen, this.writer())),
      atRate(rates.searches, stopped.signal, this.counted('search', seen, this.searcher(seen))),
    ];
    return {
      async stop() {
        stopped.abort();
        await Promise.all(loops);
        return seen;
      },
    };
  }

  /** For so many seconds. */
  async run(rates: Rates, seconds: number): Promise<Seen> {
    const running = this.start(rates);
    await sleep(seconds * 1000);
    return running.stop();
  }

  /** So many writes, as fast as they go; throws when one fails. */
  async writeAll(count: number): Promise<void> {
    const write = this.options.write;
    let n = 0;
    const one = async (client: Client) => {
      while (n < count) await client.query(write(n++));
    };
    await Promise.all(this.clients.map(one));
  }

  private writer(): (n: number) => Promise<void> {
    const idle = [...this.clients];
    const waiting: ((client: Client) => void)[] = [];
    return async (n) => {
      const client = idle.shift() ?? (await new Promise<Client>((resolve) => waiting.push(resolve)));
      try {
        await client.query(this.options.write(n));
      } finally {
        const next = waiting.shift();
        if (next) next(client);
        else idle.push(client);
      }
    };
  }

  private searcher(seen: Seen): (n: number) => Promise<void> {
    const deps = { db: this.db, embedQuery: queryEmbedder(), pointers: createPointerCache() };
    const { source, modelAt } = this.options;
    return async (n) => {
      const request = this.options.search(n);
      const { results, epoch } = await search(deps, source, request);
      const model = modelAt(epoch);
      if (model === undefined || results.some((hit) => hit.model !== model)) seen.mixed += 1;
      if (results.length < (request.k ?? 1)) seen.short += 1;
    };
  }

  private counted(kind: Sample['kind'], seen: Seen, act: (n: number) => Promise<void>): (n: number) => Promise<void> {
    return async (n) => {
      const [at, began] = [Date.now(), performance.now()];
      try {
        await act(n);
      } catch (error) {
        seen.failed += 1;
        this.lab.say(`the app's ${kind} failed: ${error}`);
      }
      seen.samples.push({ kind, at, ms: performance.now() - began });
    };
  }
}

/** Begins one after the other at a fixed rate, whether or not those before have ended; waits for all in the end. */
async function atRate(perSecond: number, stop: AbortSignal, act: (n: number) => Promise<void>): Promise<void> {
  if (perSecond === 0) return;
  const running = new Set<Promise<void>>();
  const began = performance.now();
  for (let n = 0; !stop.aborted; n++) {
    const inMs = began + (n * 1000) / perSecond - performance.now();
    if (inMs > 0) await sleep(inMs, undefined, { signal: stop }).catch(() => {});
    while (running.size >= MOST_UNDER_WAY) await Promise.race(running);
    if (stop.aborted) break;
    const run: Promise<void> = act(n).finally(() => running.delete(run));
    running.add(run);
  }
  await Promise.all(running);
}

/** Models of the `fake` provider, each opened once. */
function queryEmbedder(): EmbedQuery {
  const models = new Map<string, Promise<EmbeddingModel>>();
  return async (spec, text) => {
    const model = models.get(spec) ?? openModel(spec, { requestTimeoutMs: 30_000 });
    models.set(spec, model);
    const { vectors } = await (await model).embed([text], { purpose: 'query' });
    if (!vectors[0]) throw new TypeError(`${spec} gave no vector`);
    return vectors[0];
  };
}
