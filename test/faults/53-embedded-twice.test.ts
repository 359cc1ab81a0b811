import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { getSource } from '../../src/catalog/source.js';
import { liveSpace } from '../../src/catalog/space.js';
import { createClient } from '../../src/index.js';
import { createModels } from '../../src/worker/models.js';
import { eventually } from '../support/eventually.js';
import { expectFresh } from './rows.js';
import { ensureBuilt } from './support/build.js';

const SCRIPT = fileURLToPath(new URL('./embedded-child.mjs', import.meta.url));

describe('fault 53: embedded database directory opened by a second process [refused, nothing lost]', () => {
  let home: string;
  let dir: string;
  const children: Child[] = [];
  beforeAll(() => ensureBuilt(), 200_000);
  beforeEach(() => {
    home = mkdtempSync(path.join(os.tmpdir(), 'freshvec-fault53-'));
    dir = path.join(home, 'db');
  });
  afterEach(async () => {
    await Promise.all(children.splice(0).map((child) => child.end('SIGKILL')));
    rmSync(home, { recursive: true, force: true });
  });

  function start(directory = dir): Child {
    const child = new Child(directory);
    children.push(child);
    return child;
  }

  test('while one works: every other way in is refused', async ({ task }) => {
    const first = start();
    expect(await first.answer()).toEqual({ opened: true });
    symlinkSync(dir, path.join(home, 'link'));
    mkdirSync(path.join(home, 'other'));
    const ways = [dir, `${dir}/`, path.join(home, 'link'), `${home}/other/../db`, path.relative(process.cwd(), dir)];
    task.meta.tries = ways.length + 1;
    for (const way of ways) {
      const client = createClient({ embedded: way, env: {}, configFile: false });
      const refused = await client.database().catch((error: unknown) => error);
      expect(refused).toMatchObject({
        code: 'embedded_in_use',
        message: expect.stringContaining(`process ${first.pid}`),
      });
      await client.close();
    }
    expect(await start(path.join(home, 'link')).answer()).toMatchObject({ code: 'embedded_in_use' });
    const before = first.committed;
    await eventually(() => first.committed > before + 20, { what: 'the first process going on' });
    await first.end('SIGTERM');
    await expectAllThere(first);
  });

  test('the one that has it is killed: the next takes over', async ({ task }) => {
    task.meta.tries = 1;
    const child = start();
    expect(await child.answer()).toEqual({ opened: true });
    await eventually(() => child.committed > 20, { what: 'some rows' });
    await child.end('SIGKILL');
    await expectAllThere(child);
  });

  test('several at once: one has it, the rest are refused', async ({ task }) => {
    const all = [start(), start(), start()];
    task.meta.tries = all.length;
    const answers = await Promise.all(all.map((child) => child.answer()));
    expect(answers.filter((answer) => answer.opened === true)).toHaveLength(1);
    expect(answers.filter((answer) => answer.code === 'embedded_in_use')).toHaveLength(2);
    const holder = all.find((child) => child.running) as Child;
    await eventually(() => holder.committed > 20, { what: 'some rows' });
    await holder.end('SIGTERM');
    await expectAllThere(holder);
  });

  /** Every row whose commit was told of is there, and once worked off, fresh. */
  async function expectAllThere({ pid, committed }: Child): Promise<void> {
    const client = createClient({ embedded: dir, env: {}, configFile: false });
    const models = createModels({ requestTimeoutMs: 1_000 });
    try {
      const db = await client.database();
      const [row] = await db.query<{ rows: number }>(
        `SELECT count(*) AS rows FROM note WHERE body LIKE 'note of ${pid} %'`,
      );
      // A commit may be done and not told of.
      expect(row?.rows).toBeGreaterThanOrEqual(committed);
      expect(row?.rows).toBeLessThanOrEqual(committed + 1);
      // Leases of a killed process last 120 s by the database's clock; this is that clock going on.
      await db.query('UPDATE freshvec.lease SET expires_at = clock_timestamp()');
      await client.workOnce();
      const source = await getSource(db, 'note');
      const live = await liveSpace(db, source.id);
      if (!live) throw new Error('no live space');
      await expectFresh({ db, models }, { source, space: live.space }, { text: 'body' });
    } finally {
      await models.close();
      await client.close();
    }
  }
});

type Answer = { opened?: boolean; code?: string; message?: string };

/** One process on the directory, and what it said. */
class Child {
  committed = 0;
  private readonly process: ChildProcess;
  private first: Answer | undefined;

  constructor(directory: string) {
    this.process = spawn(process.execPath, [SCRIPT, directory], { stdio: ['ignore', 'pipe', 'inherit'] });
    if (!this.process.stdout) throw new Error('no stdout');
    createInterface({ input: this.process.stdout }).on('line', (line) => {
      const said = JSON.parse(line) as Answer & { committed?: number };
      if (said.committed === undefined) this.first ??= said;
      else this.committed += 1;
    });
  }

  get pid(): number | undefined {
    return this.process.pid;
  }

  get running(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  answer(): Promise<Answer> {
    return eventually(() => this.first, { timeoutMs: 40_000, what: 'a word of the process' });
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (!this.running) return;
    const closed = once(this.process, 'close');
    this.process.kill(signal);
    await closed;
  }
}
