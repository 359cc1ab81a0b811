/** Runs `fn` for every item, one after the other; what fails does not keep the rest from being done, and is thrown last. */
export async function forEach<T>(items: readonly T[], fn: (item: T) => Promise<void>): Promise<void> {
  const errors: unknown[] = [];
  for (const item of items) await fn(item).catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw errors[0];
}
