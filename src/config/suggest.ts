/** The known word nearest to what was written, if one is near enough to be meant. */
export function suggest(written: string, known: readonly string[]): string | undefined {
  const ranked = known.map((word) => ({ word, far: distance(simple(written), simple(word)) }));
  ranked.sort((a, b) => a.far - b.far);
  const [best] = ranked;
  return best && best.far <= Math.max(1, Math.floor(best.word.length / 3)) ? best.word : undefined;
}

/** `database_url`, `databaseURL` and `databaseUrl` are one word to a person. */
function simple(word: string): string {
  return word.toLowerCase().replaceAll(/[-_]/g, '');
}

/** Levenshtein's edit distance. */
function distance(a: string, b: string): number {
  let above = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const replaced = (above[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min(replaced, (above[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1));
    }
    above = row;
  }
  return above[b.length] ?? 0;
}
