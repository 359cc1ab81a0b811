/** The Procfile's `reembed`: carries out migrations, until SIGTERM. */
import { loadWorkerConfig, serve } from '../src/client/serve.js';
import { stopSignal } from '../src/client/signals.js';
import { createLog } from '../src/observe/log.js';

let log = createLog('info');
try {
  const config = await loadWorkerConfig();
  log = createLog(config.log.level);
  await serve(config, ['reembed'], log, stopSignal());
  process.exit(0);
} catch (err) {
  log.fatal({ err }, 'the migration controller cannot go on');
  process.exit(1);
}
