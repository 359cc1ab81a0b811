import { setTimeout as delay } from 'node:timers/promises';

export interface EventuallyOptions {
  /** How long the condition may take; 10 s unless told. */
  readonly timeoutMs?: number;
  /** Time between two looks; 10 ms unless told. */
  readonly intervalMs?: number;
  /** What is waited for, named in the error. */
  readonly what?: string;
}

type NotYet = undefined | null | false;

/**
 * Looks until `probe` gives something other than undefined, null or false, and resolves to that. A probe that throws
 * counts as "not yet", so assertions may stand in it; the last error is the cause of the time-out's.
 */
export async function eventually<T>(
  probe: () => T | Promise<T>,
  { timeoutMs = 10_000, intervalMs = 10, what = 'the condition' }: EventuallyOptions = {},
): Promise<Exclude<T, NotYet>> {
  const deadline = Date.now() + timeoutMs;
  let cause: unknown;
  do {
    try {
      const value = await within(probe(), deadline);
      cause = undefined;
      if (value !== undefined && value !== null && value !== false) return value as Exclude<T, NotYet>;
    } catch (error) {
      cause = error;
    }
    await delay(intervalMs);
  } while (Date.now() < deadline);
  const detail = cause instanceof Error ? `: ${cause.message}` : '';
  throw new Error(`${what} did not come true within ${timeoutMs} ms${detail}`, { cause });
}

/** A probe that hangs must not outlive the deadline, else the test's own time-out reports it without a name. */
async function within<T>(value: T | Promise<T>, deadline: number): Promise<T> {
  const timer = new AbortController();
  try {
    const late = delay(Math.max(deadline - Date.now(), 1), undefined, { signal: timer.signal }).then(() => {
      throw new Error('the probe itself did not answer');
    });
    late.catch(() => undefined);
    return await Promise.race([value, late]);
  } finally {
    timer.abort();
  }
}
