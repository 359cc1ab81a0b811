import { accountOf } from '../budget/gates.js';
import type { ControllerDeps } from '../reembed/operation.js';
import { createThrottles } from '../reembed/throttles.js';
import type { Connection } from './connection.js';

/** What controllers need beside the queue. */
export async function reembedDeps(connection: Connection): Promise<ControllerDeps & { close(): Promise<void> }> {
  const db = await connection.ready();
  const { config, models } = connection;
  const throttles = createThrottles(db, config.throttle, async (spec) => {
    const account = accountOf(await models.get(spec));
    return account === undefined ? [] : [account];
  });
  return {
    db,
    runGates: async () => [],
    throttle: (work, share) => throttles.tick(work, share),
    index: { maintenanceWorkMem: undefined, parallelWorkers: undefined },
    close: () => throttles.close(),
  };
}
