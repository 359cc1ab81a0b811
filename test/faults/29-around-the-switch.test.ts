import { spawn } from 'node:child_process';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { liveSpace } from '../../src/catalog/space.js';
import { ensureIndex } from '../../src/store/build-index.js';
import { checkInvariants, start, workUntil } from '../reembed/support.js';
import { eventually } from '../support/eventually.js';
import { openFixture } from '../support/fixture.js';
import { atExit } from '../support/servers/cleanup.js';
import { ensureBuilt, ROOT } from './support/build.js';
import { Controllers } from './support/controllers.js';
import { ASK } from './support/migrations.js';
import { eachTry } from './support/tries.js';

/** Where the process that switches is killed, and whether the switch holds then. */
const CRASHES = [
  { ask: 'cutover', at: 'before: UPDATE freshvec.pointer', holds: false },
  { ask: 'cutover', at: 'before: COMMIT', holds: false },
  { ask: 'cutover', at: 'sent: COMMIT', holds: true },
  { ask: 'rollback', at: 'before: UPDATE freshvec.pointer', holds: false },
  { ask: 'rollback', at: 'before: COMMIT', holds: false },
  { ask: 'rollback', at: 'sent: COMMIT', holds: true },
  { ask: 'cutover', at: 'sent: UPDATE freshvec.pointer', holds: false },
] as const;

interface Seen {
  readonly epoch: number;
  readonly model: string;
}

beforeAll(ensureBuilt, 180_000);

test('fault 29: crash right before and right after the commit of the pointer [X]', {
  timeout: 300_000,
}, async (context) => {
  const fixture = await openFixture();
  const controllers = new Controllers(fixture.url);
  const searcher = startSearcher(fixture.url);
  try {
    const { db } = fixture;
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL);
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 50) i`);
    const held = await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8' });
    await fixture.work();
    await ensureIndex(db, held.source, held.space);
    // All that it says from here on is judged.
    await eventually(() => searcher.seen().some(({ epoch }) => epoch === 1), { timeoutMs: 30_000, what: 'a search' });
    const judgedFrom = searcher.lines().length;
    const { id, fromSpaceId, toSpaceId } = await start(fixture, 'doc', { model: 'fake/b@12' });
    await workUntil(fixture, id, ['ready']);
    const live = async () => {
      const found = await liveSpace(db, held.source.id);
      if (!found) throw new Error('there is no live space');
      return found;
    };
    await eachTry(context, CRASHES, async ({ ask, at, holds }) => {
      const before = await live();
      // Where the last crash left nothing to do, or undid it: the other way first.
      if (before.space.id === (ask === 'cutover' ? toSpaceId : fromSpaceId)) {
        await ASK[ask === 'cutover' ? 'rollback' : 'cutover'](db, 'doc');
      }
      const { epoch, space } = await live();
      const process = controllers.start(id, { signal: 'SIGKILL', at }, ask);
      await eventually(() => !process.running, { timeoutMs: 60_000, what: `the crash ${at}` });
      expect(process.struck()?.label).toContain(at);
      // A transaction of the dead process may be open for a moment more: the other way waits for its row.
      await checkInvariants(db, id);
      const now = await live();
      expect(now.epoch).toBe(holds ? epoch + 1 : epoch);
      expect(now.space.id === space.id).toBe(!holds);
      // Asked again it is done, once.
      await ASK[ask](db, 'doc');
      const done = await live();
      expect(done.epoch).toBe(epoch + 1);
      await checkInvariants(db, id);
      const model = done.space.fingerprint;
      const follows = () => searcher.seen().some((seen) => seen.epoch === done.epoch && seen.model === model);
      await eventually(follows, { timeoutMs: 30_000, what: `a search under epoch ${done.epoch}` });
    });
    await searcher.end();
    const judged = searcher.lines().slice(judgedFrom);
    expect(judged.filter((line) => !('model' in line))).toEqual([]);
    // One epoch, one model; and no search was answered by an epoch that had ended.
    const epochs = searcher.seen().map(({ epoch }) => epoch);
    expect(epochs).toEqual([...new Set(epochs)].sort((a, b) => a - b));
  } finally {
    await searcher.end();
    await controllers.close();
    await fixture.close();
  }
});

function startSearcher(url: string) {
  const child = spawn(process.execPath, [path.join(ROOT, 'test/faults/support/searcher-main.mjs'), url], {
    env: { PATH: process.env.PATH ?? '' },
    cwd: path.join(ROOT, 'dist'),
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let out = '';
  let running = true;
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  const forget = atExit(() => child.kill('SIGKILL'));
  child.once('close', () => {
    running = false;
    forget();
  });
  const lines = (): (Seen | { readonly failed: string } | { readonly wrong: unknown })[] => {
    const whole = out.slice(0, out.lastIndexOf('\n') + 1).split('\n');
    return whole.filter((line) => line !== '').map((line) => JSON.parse(line));
  };
  return {
    lines,
    /** Epochs and models as they changed. */
    seen: () => lines().filter((line): line is Seen => 'model' in line),
    async end() {
      child.stdin.end();
      await eventually(() => !running, { what: 'the end of the searcher' });
    },
  };
}
