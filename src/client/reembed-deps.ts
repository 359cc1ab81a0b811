import { accountOf } from '../budget/gates.js';
import { runGates } from '../reembed/gates/run.js';
import type { ControllerDeps } from '../reembed/operation.js';
import { createThrottles } from '../reembed/throttles.js';
import type { Connection } from './connection.js';

/** What controllers need beside the queue. */
export async function reembedDeps(connection: Connection): Promise<ControllerDeps & { close(): Promise<void> }> {
  const db = await connection.ready();
  const { config, models } = connection;
  const gates = await connection.gates();
  const throttles = createThrottles(db, config.throttle, async (spec) => {
    const account = accountOf(await models.get(spec));
    return account === undefined ? [] : [account];
  });
  return {
    db,
    runGates: (of) => runGates({ ...of, db, models, budget: gates, settings: config.reembed.gates }),
    throttle: (work, share) => throttles.tick(work, share),
    index: config.reembed.index,
    close: () => throttles.close(),
  };
}
