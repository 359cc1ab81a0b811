import { createGates } from '../../src/budget/gates.js';
import type { Database } from '../../src/db/database.js';
import type { DrainReport } from '../../src/stages/context.js';
import { Drainer } from '../../src/worker/drainer.js';
import type { Fixture } from './fixture.js';

/** Works a space off by one slot, `batchKeys` keys at a time; several would share a batch out. */
export async function drainAlone(
  { db, models }: { db: Database; models: Fixture['models'] },
  spaceId: number,
  batchKeys: number,
): Promise<DrainReport> {
  const gates = createGates(db, {}, () => {});
  const drainer = new Drainer({ db, models, gates, worker: 'test', batchKeys });
  const { signal } = new AbortController();
  try {
    return await drainer.drain(spaceId, { stop: signal, cut: signal });
  } finally {
    await drainer.close();
    await gates.close();
  }
}
