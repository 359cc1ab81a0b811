import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { expect } from 'vitest';
import type { Database } from '../../../src/db/database.js';
import { openDatabase } from '../../../src/db/open.js';
import { createPointerCache, search } from '../../../src/search/index.js';
import type { Models } from '../../../src/worker/models.js';

/** How long a statement may wait for a lock before the server fails it; see `app.ts`. */
const LOCK_BUDGET_MS = 2_000;

/** An app of few statements, which writes into `doc (id, body)` and searches it while a migration goes on. */
export class SmallApp {
  readonly failures: string[] = [];
  /** Models of the hits under each epoch. */
  readonly models = new Map<number, Set<string>>();
  statements = 0;
  private readonly stopped = new AbortController();
  private loops: Promise<unknown> = Promise.resolve();
  private serial = 0;

  private constructor(
    private readonly writer: pg.Pool,
    private readonly db: Database,
    private readonly provider: Models,
  ) {
    writer.on('error', () => {}); // The next statement connects again.
  }

  static async start(url: string, models: Models): Promise<SmallApp> {
    const options = `-c lock_timeout=${LOCK_BUDGET_MS}`;
    const writer = new pg.Pool({ connectionString: url, max: 1, application_name: 'app', options });
    const db = await openDatabase({ kind: 'postgres', url, poolSize: 1, applicationName: 'app', onError: () => {} });
    const app = new SmallApp(writer, db, models);
    app.loops = Promise.all([app.repeat(() => app.write()), app.repeat(() => app.search())]);
    return app;
  }

  /** Nothing failed (Q), and no search saw two models (X). */
  assertUndisturbed(): void {
    expect(this.failures).toEqual([]);
    expect(this.statements).toBeGreaterThan(0);
    for (const [epoch, models] of this.models) expect([...models], `models of epoch ${epoch}`).toHaveLength(1);
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    await this.loops;
    if (!this.writer.ended) await this.writer.end();
    await this.db.close();
  }

  private async repeat(step: () => Promise<unknown>): Promise<void> {
    while (!this.stopped.signal.aborted) {
      await step().catch((error: unknown) => this.failures.push(String(error)));
      this.statements += 1;
      await sleep(50 + 50 * Math.random(), undefined, { signal: this.stopped.signal }).catch(() => {});
    }
  }

  private write(): Promise<unknown> {
    this.serial += 1;
    const text = `written ${this.serial}`;
    const id = Math.floor(Math.random() * 50) + 1;
    if (this.serial % 3 === 0) return this.writer.query('DELETE FROM doc WHERE id = $1', [id]);
    return this.writer.query('INSERT INTO doc VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body', [
      id,
      text,
    ]);
  }

  private async search(): Promise<void> {
    const embedQuery = async (spec: string, text: string) => {
      const model = await this.provider.get(spec);
      const { vectors } = await model.embed([text], { purpose: 'query', signal: new AbortController().signal });
      return vectors[0] ?? new Float32Array();
    };
    const deps = { db: this.db, embedQuery, pointers: this.pointers };
    const { results, epoch } = await search(deps, 'doc', { text: 'written 1', k: 5 });
    const seen = this.models.get(epoch) ?? new Set();
    this.models.set(epoch, seen);
    for (const { model } of results) seen.add(model);
  }

  private readonly pointers = createPointerCache();
}
