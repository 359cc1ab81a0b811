import type { ControllerDeps } from '../reembed/operation.js';

/** What controllers need beside the database. */
export function reembedDeps(): Pick<ControllerDeps, 'runGates' | 'throttle' | 'index'> {
  return {
    runGates: async () => [],
    throttle: async () => ({ share: 1, signals: [] }),
    index: { maintenanceWorkMem: undefined, parallelWorkers: undefined },
  };
}
