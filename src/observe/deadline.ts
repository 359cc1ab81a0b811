import { FreshvecError } from '../db/errors.js';

/** What `promise` resolves to, or FreshvecError `too_slow` after so many ms; the work itself goes on. */
export async function within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new FreshvecError('too_slow', `${what} took longer than ${ms} ms.`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

export interface SharedOptions {
  /** How long an answer, or a failure, is good for once it is there. */
  readonly keepMs: number;
  /** How long one asker waits. */
  readonly waitMs: number;
  /** Names it in the error. */
  readonly what: string;
}

/**
 * The same question, put once however many ask: askers share the answer under way, and then the one that is there. One
 * that takes longer than they wait is not put again beside itself, so nobody who asks often makes a slow database slower.
 */
export function shared<T>(ask: () => Promise<T>, { keepMs, waitMs, what }: SharedOptions): () => Promise<T> {
  let answer: Promise<T> | undefined;
  let goodUntil = Number.POSITIVE_INFINITY;
  return () => {
    if (answer === undefined || performance.now() >= goodUntil) {
      goodUntil = Number.POSITIVE_INFINITY;
      answer = ask().finally(() => {
        goodUntil = performance.now() + keepMs;
      });
      answer.catch(() => {}); // Seen by those who wait; there may be none left.
    }
    return within(answer, waitMs, what);
  };
}
