import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import { qualified } from '../db/identifiers.js';
import { type BuildProgress, watched } from './build-progress.js';
import { longSession, type SessionOptions } from './index-session.js';
import { dropLeftovers } from './leftovers.js';
import type { OwnIndex } from './own-index.js';
import { buildInParallel } from './parallel-build.js';

export interface RebuildOptions extends SessionOptions {
  readonly onProgress?: ((progress: BuildProgress) => void) | undefined;
}

/**
 * Builds one valid index of freshvec's again in place, while the app reads and writes: REINDEX CONCURRENTLY, and plain
 * where there is no second connection that it could be in the way of. Where it fails the index is as it was, and what
 * the attempt left is dropped. The caller sees to it that nothing else builds on the table.
 */
export async function rebuildIndex(
  db: Database,
  source: Source,
  space: Space,
  index: OwnIndex,
  options: RebuildOptions,
): Promise<void> {
  const { schema, oid } = index.relation;
  const concurrently = db.kind === 'pglite' ? '' : 'CONCURRENTLY ';
  try {
    await longSession(db, options, (session) =>
      watched(db, oid, index.name, options, () =>
        buildInParallel(session, async () => {
          await dropLeftovers(db, source, space);
          await session.query(`REINDEX INDEX ${concurrently}${qualified(schema, index.name)}`);
        }),
      ),
    );
  } catch (error) {
    await dropLeftovers(db, source, space).catch(() => {}); // The next round of maintenance drops them.
    throw error;
  }
}
