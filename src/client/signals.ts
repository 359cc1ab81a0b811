/** Aborts on the first SIGTERM or SIGINT; the second ends the process at once. For processes of our own only. */
export function stopSignal(): AbortSignal {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stop.signal.aborted) process.exit(signal === 'SIGINT' ? 130 : 143);
      stop.abort();
    });
  }
  return stop.signal;
}
