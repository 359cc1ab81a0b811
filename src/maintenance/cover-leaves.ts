import { getSource, listSources } from '../catalog/source.js';
import type { Database } from '../db/database.js';
import { captureNewPartitions, forgetDetached, mendTriggerModes } from '../source/index.js';
import { forEach } from './for-each.js';

/** A partition whose lock is not to be had is left for the next round. */
const GIVE_UP_MS = 5_000;

/**
 * Puts capture on partitions that were created or attached since, takes it off those that were detached, and mends
 * triggers that a restore turned into plain ones. Resolves to how many sources were covered anew.
 */
export async function coverLeaves(db: Database, sourceName?: string): Promise<number> {
  let covered = 0;
  const sources = sourceName === undefined ? await listSources(db) : [await getSource(db, sourceName)];
  await forEach(sources, async (source) => {
    const added = await captureNewPartitions(db, source, { giveUpMs: GIVE_UP_MS });
    const forgotten = await forgetDetached(db, source, { giveUpMs: GIVE_UP_MS });
    const mended = await mendTriggerModes(db, source, { giveUpMs: GIVE_UP_MS });
    if (added.length + forgotten.length + mended.length > 0) covered += 1;
  });
  return covered;
}
