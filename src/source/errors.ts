import { FreshvecError } from '../db/errors.js';

/** A source that cannot work as asked, with every reason and what to do about it. Nothing was changed. */
export class SourceRefused extends FreshvecError {
  override readonly name = 'SourceRefused';
  constructor(
    table: string,
    readonly reasons: readonly string[],
    options?: ErrorOptions,
  ) {
    super(
      'source_refused',
      reasons.length === 1
        ? `${table} cannot be a source: ${reasons[0]}`
        : `${table} cannot be a source:\n${reasons.map((reason) => `  - ${reason}`).join('\n')}`,
      options,
    );
  }
}

/** ` Did you mean "title"?`, or the whole list where nothing is near. */
export function didYouMean(given: string, existing: readonly string[]): string {
  const near = existing
    .map((name) => ({ name, distance: editDistance(given.toLowerCase(), name.toLowerCase()) }))
    .filter(({ name, distance }) => distance <= Math.ceil(Math.max(name.length, given.length) / 3))
    .sort((a, b) => a.distance - b.distance)[0];
  if (near) return ` Did you mean "${near.name}"?`;
  return existing.length === 0 ? '' : ` There are: ${existing.slice(0, 40).join(', ')}.`;
}

/** Levenshtein's distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substituted = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substituted, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
