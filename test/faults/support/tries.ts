import type { TestContext } from 'vitest';

/** Injects a fault once for each of `variants`, one after the other, and tells the report how often. */
export async function eachTry<T>(
  { task }: Pick<TestContext, 'task'>,
  variants: readonly T[],
  fn: (variant: T, attempt: number) => Promise<void>,
): Promise<void> {
  task.meta.tries = variants.length;
  for (const [attempt, variant] of variants.entries()) {
    await fn(variant, attempt).catch((error: unknown) => {
      const reason = error instanceof Error ? error.message : String(error);
      throw new Error(`try ${attempt + 1} (${JSON.stringify(variant)}): ${reason}`, { cause: error });
    });
  }
}
