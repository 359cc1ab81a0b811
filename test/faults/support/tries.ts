import type { TestContext } from 'vitest';

/**
 * Injects a fault once for each of `variants`, each in a system of its own, side by side (most of a try is waiting), and
 * tells the report how often. The first failure is thrown when all have ended.
 */
export async function eachTry<T>(
  { task }: Pick<TestContext, 'task'>,
  variants: readonly T[],
  fn: (variant: T) => Promise<void>,
): Promise<void> {
  task.meta.tries = variants.length;
  const tries = await Promise.allSettled(variants.map(fn));
  const failures = tries.flatMap((result, i) =>
    result.status === 'rejected' ? [`try ${i + 1}, ${JSON.stringify(variants[i])}: ${messageOf(result.reason)}`] : [],
  );
  if (failures.length > 0) throw new Error(failures.join('\n\n'));
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
