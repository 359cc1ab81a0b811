import { expect, test } from 'vitest';
import { buildIndexes } from '../../src/maintenance/build-indexes.js';
import { reindexSource } from '../../src/maintenance/reindex-source.js';
import { swapIndex } from '../../src/maintenance/swap-index.js';
import { listTargets } from '../../src/maintenance/targets.js';
import { ensureIndex } from '../../src/store/build-index.js';
import { openTransaction, vectorIndexes } from '../faults/index-builds.js';
import { openFixture } from '../support/fixture.js';
import { vectorSource } from './vector-source.js';

test('the indexes of a partitioned table get their names all at once, so a stop in between is gone on from', async () => {
  const fixture = await openFixture();
  const { db } = fixture;
  try {
    await vectorSource(fixture, { table: 'doc', rows: 200, dimensions: 8, partitions: 3 });
    await buildIndexes(db);
    const names = await vectorIndexes(db);
    await db.query('UPDATE freshvec.space SET m = 8, ef_construction = 32');
    const target = async () => {
      const [found] = await listTargets(db, 'doc');
      if (!found) throw new Error('no target');
      return found;
    };
    const { source, space } = await target();
    await ensureIndex(db, source, space, { next: true });
    const [last] = (await vectorIndexes(db)).filter(({ name }) => name.endsWith('_next')).slice(-1);
    const holder = await openTransaction(fixture.url, 'BEGIN', `COMMENT ON INDEX "${last?.name}" IS 'held'`);
    const stop = AbortSignal.timeout(1_000);
    await expect(swapIndex(db, await target(), { signal: stop })).rejects.toThrow();
    expect((await vectorIndexes(db)).filter(({ name }) => !name.endsWith('_next'))).toEqual([]);
    await holder.query('ROLLBACK');
    await holder.end();

    expect(await swapIndex(db, await target(), {})).toBe(true);
    expect(await vectorIndexes(db)).toEqual(names);
    expect(await buildIndexes(db)).toBe(0);
    expect(await reindexSource(db, 'doc', { m: 8 }, { lockTimeoutMs: 1_000 })).toMatchObject({ outcome: 'already' });
  } finally {
    await fixture.close();
  }
});
