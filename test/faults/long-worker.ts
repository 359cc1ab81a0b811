import { createClient } from '../../src/index.js';

/** A worker on BullMQ over Postgres, in this process: one that goes on, with all that it remembers. */
export function startWorker(databaseUrl: string): { stop(): Promise<void> } {
  const settings = { log: { level: 'silent' }, worker: { slots: 2, batchKeys: 10 } } as const;
  const client = createClient({ databaseUrl, env: {}, configFile: false, settings });
  const stop = new AbortController();
  const working = client.work({ signal: stop.signal });
  return {
    async stop() {
      stop.abort();
      await working;
      await client.close();
    },
  };
}
