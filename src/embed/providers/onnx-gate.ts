/**
 * Says whether a thread is inside native code. A thread that is stopped there, by `terminate` or by the end of the
 * process, takes the whole process down with SIGABRT (onnxruntime-node 1.30), so whoever stops it shuts the gate first
 * and waits. One shared Int32: bits below.
 */
const INSIDE = 1;
const SHUT = 2;

export function createGate(): SharedArrayBuffer {
  return new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
}

/** Runs `fn`, which must not overlap another, or throws GateShut. */
export async function throughGate<T>(gate: SharedArrayBuffer, fn: () => Promise<T>): Promise<T> {
  const state = new Int32Array(gate);
  const before = Atomics.or(state, 0, INSIDE);
  try {
    if (before & SHUT) throw new GateShut();
    return await fn();
  } finally {
    Atomics.and(state, 0, ~INSIDE);
    Atomics.notify(state, 0);
  }
}

/** Nobody enters from now on. Blocks until the thread is outside, at most `waitMs`; for handlers of `exit`. */
export function shutGate(gate: SharedArrayBuffer, waitMs: number): void {
  const state = new Int32Array(gate);
  Atomics.or(state, 0, SHUT);
  const end = performance.now() + waitMs;
  for (let now = Atomics.load(state, 0); now & INSIDE; now = Atomics.load(state, 0)) {
    const left = end - performance.now();
    if (left <= 0) return;
    Atomics.wait(state, 0, now, left);
  }
}

/** The thread is being stopped. */
export class GateShut extends Error {
  override readonly name = 'GateShut';
}
