/**
 * A preload (`node --import`) for worker processes: a text with the marker kills the process, as one would that trips a
 * bug of the runtime or takes all memory.
 */
const { fetch } = globalThis;
const marker = process.env.CRASH_MARKER;

globalThis.fetch = (input, init) => {
  if (marker && typeof init?.body === 'string' && init.body.includes(marker)) process.kill(process.pid, 'SIGKILL');
  return fetch(input, init);
};
