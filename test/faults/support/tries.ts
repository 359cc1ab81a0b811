import type { TestContext } from 'vitest';

type Task = Pick<TestContext, 'task'>;

/** Injects a fault once for each of `variants`, one after the other, and tells the report how often. */
export async function eachTry<T>(
  { task }: Task,
  variants: readonly T[],
  fn: (variant: T, attempt: number) => Promise<void>,
): Promise<void> {
  task.meta.tries = variants.length;
  for (const [attempt, variant] of variants.entries()) {
    await fn(variant, attempt).catch((error: unknown) => {
      throw new Error(describe(variant, attempt, error), { cause: error });
    });
  }
}

/**
 * The same side by side, each in a system of its own: most of a try is waiting. What failed is thrown when all have
 * ended.
 */
export async function sideBySide<T>(
  { task }: Task,
  variants: readonly T[],
  fn: (variant: T) => Promise<void>,
): Promise<void> {
  task.meta.tries = variants.length;
  const tries = await Promise.allSettled(variants.map(fn));
  const failures = tries.flatMap((result, attempt) =>
    result.status === 'rejected' ? [describe(variants[attempt], attempt, result.reason)] : [],
  );
  if (failures.length > 0) throw new Error(failures.join('\n\n'));
}

function describe(variant: unknown, attempt: number, error: unknown): string {
  return `try ${attempt + 1}, ${JSON.stringify(variant)}: ${error instanceof Error ? error.message : String(error)}`;
}
