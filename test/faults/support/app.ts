import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { expect } from 'vitest';
import { type Client, createClient } from '../../../src/index.js';
import { standInVector } from './provider.js';

export interface AppOptions {
  /** Writes a second; 25 unless told. */
  readonly writesPerSecond?: number;
  /** Ms between two searches; 200 unless told. */
  readonly searchEveryMs?: number;
  /** False: it only writes. Its searches are by vector, which a switch to another model refuses by right. */
  readonly searches?: boolean;
  /**
   * How long a statement may wait for a lock before the server fails it: invariant Q, by the server's own count. The
   * budget of 100 ms is measured by bench/app-wait on a machine of its own; here processes outnumber the cores.
   */
  readonly lockBudgetMs?: number;
  /** False: no row is hidden and shown again, which pays for its text again by right. */
  readonly hides?: boolean;
}

export interface Statement {
  readonly what: string;
  readonly ms: number;
  readonly error: Error | undefined;
}

/** An app that writes into `doc` and searches it until it is stopped. No text is ever written twice. */
export class App {
  readonly statements: Statement[] = [];
  /** Models of all hits so far. */
  readonly models = new Set<string>();
  private readonly writer: pg.Pool;
  private readonly client: Client;
  private readonly stopped = new AbortController();
  private loops: Promise<unknown> = Promise.resolve();
  private serial = 0;

  constructor(
    private readonly url: string,
    private readonly dimensions: number,
    private readonly options: AppOptions,
  ) {
    const budget = options.lockBudgetMs ?? 1_000;
    this.writer = new pg.Pool({
      connectionString: url,
      max: 1,
      application_name: 'app',
      options: `-c lock_timeout=${budget}`,
    });
    this.writer.on('error', () => {}); // The next statement connects again.
    const settings = { database: { poolSize: 1 } };
    this.client = createClient({ databaseUrl: url, env: {}, configFile: false, settings, onError: () => {} });
  }

  start(): void {
    const { writesPerSecond = 25, searchEveryMs = 200, searches = true } = this.options;
    const write = () => this.write();
    const search = () => this.search();
    const writing = this.repeat(1000 / writesPerSecond, write);
    this.loops = Promise.all([writing, ...(searches ? [this.repeat(searchEveryMs, search)] : [])]);
  }

  /** Stops writing and searching; the app is gone when this resolves. */
  async stop(): Promise<void> {
    this.stopped.abort();
    await this.loops;
    if (!this.writer.ended) await this.writer.end();
    await this.client.close();
  }

  failed(): Statement[] {
    return this.statements.filter(({ error }) => error !== undefined);
  }

  /** Invariants Q and X, as far as this app saw: nothing failed, and all hits were of one model. */
  assertUndisturbed(): void {
    expect(this.failed().map(({ what, error }) => `${what}: ${error?.message}`)).toEqual([]);
    expect(this.statements.length).toBeGreaterThan(0);
    expect(this.models.size).toBeLessThanOrEqual(1);
  }

  /** A text that nobody had before. */
  text(): string {
    this.serial += 1;
    return `text ${this.serial} of ${this.url.split('/').pop()}`;
  }

  private async repeat(everyMs: number, step: () => Promise<void>): Promise<void> {
    while (!this.stopped.signal.aborted) {
      await step();
      await sleep(everyMs * (0.5 + Math.random()), undefined, { signal: this.stopped.signal }).catch(() => {});
    }
  }

  private async write(): Promise<void> {
    const [what, sql, values] = this.nextWrite();
    await this.observe(what, () => this.writer.query(sql, values));
  }

  private nextWrite(): [what: string, sql: string, values: string[]] {
    const some =
      'id = (SELECT id FROM doc WHERE id >= floor(random() * (SELECT max(id) FROM doc)) ORDER BY id LIMIT 1)';
    const dice = Math.random();
    if (dice < 0.35) return ['insert', 'INSERT INTO doc (title, body) VALUES ($1, $2)', ['a title', this.text()]];
    if (dice < 0.65) return ['edit', `UPDATE doc SET body = $1 WHERE ${some}`, [this.text()]];
    if (dice < 0.72) return ['hot edit', 'UPDATE doc SET body = $1 WHERE id = 1', [this.text()]];
    if (dice < 0.8) return ['note', `UPDATE doc SET note = $1 WHERE ${some}`, [this.text()]];
    if (dice < 0.85 && this.options.hides !== false)
      return ['hide', `UPDATE doc SET hidden = NOT hidden WHERE ${some}`, []];
    if (dice < 0.88) return ['blank', `UPDATE doc SET title = NULL, body = ' ' WHERE ${some}`, []];
    if (dice < 0.9)
      return ['import', 'INSERT INTO doc (body) SELECT $1 || i FROM generate_series(1, 5) i', [this.text()]];
    return ['delete', `DELETE FROM doc WHERE id <> 1 AND ${some}`, []];
  }

  private async search(): Promise<void> {
    const vector = standInVector(String(Math.random()), this.dimensions);
    await this.observe('search', async () => {
      const { results } = await this.client.search('doc', { vector, k: 5 });
      for (const { model } of results) this.models.add(model);
    });
  }

  private async observe(what: string, statement: () => Promise<unknown>): Promise<void> {
    const began = performance.now();
    const error = await statement().then(
      () => undefined,
      (reason: unknown) => (reason instanceof Error ? reason : new Error(String(reason))),
    );
    this.statements.push({ what, ms: performance.now() - began, error });
  }
}
