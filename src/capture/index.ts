export { dollarQuote } from './dollar-quote.js';
export { enqueue, type KeyInput, partText, type QueryClient } from './enqueue.js';
export { functionsSql, statementTriggersSql, triggersSql } from './install.js';
export {
  type CaptureTarget,
  listRelations,
  readCaptureTarget,
  readWatched,
  type WatchedColumn,
} from './target.js';
export { detachedRelations, dropFunctionsSql, dropTriggersSql, leftoverTriggersSql } from './uninstall.js';
