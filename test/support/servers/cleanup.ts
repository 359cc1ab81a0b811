/**
 * What must not outlive this process. A process that leaves by `process.exit`, an exception or a signal gets no chance
 * to await anything, so the undo actions are synchronous.
 */
const undoActions = new Set<() => void>();
let installed = false;

/** Runs `undo` when the process ends; the returned function takes that back. */
export function atExit(undo: () => void): () => void {
  undoActions.add(undo);
  install();
  return () => undoActions.delete(undo);
}

function install(): void {
  if (installed) return;
  installed = true;
  process.once('exit', undoAll);
  // A forked test worker whose runner was killed would go on to the end of its test, with its servers.
  process.once('disconnect', () => process.exit(1));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      undoAll();
      // With a listener the default action is gone: end as the signal would have, unless others want it too.
      if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
    });
  }
}

function undoAll(): void {
  for (const undo of undoActions) {
    try {
      undo();
    } catch (error) {
      process.stderr.write(`servers: ${String(error)}\n`);
    }
  }
  undoActions.clear();
}
