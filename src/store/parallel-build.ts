import type { Executor } from '../db/database.js';
import { sqlState } from '../db/errors.js';

/**
 * Runs a statement that builds an index; once more by one process alone where shared memory is short, as in a container
 * with 64 MB of /dev/shm: a parallel build keeps its graph there.
 */
export async function buildInParallel(session: Executor, build: () => Promise<unknown>): Promise<void> {
  try {
    await build();
  } catch (error) {
    if (!lacksSharedMemory(error)) throw error;
    await session.query('SET max_parallel_maintenance_workers = 0');
    await build();
  }
}

/** Not the disk, although the state is the same; the server's message may be in any language. */
function lacksSharedMemory(error: unknown): boolean {
  if (sqlState(error) !== '53100' || typeof error !== 'object' || error === null) return false;
  return 'routine' in error && typeof error.routine === 'string' && error.routine.startsWith('dsm_');
}
