import cliProgress from 'cli-progress';
import type { SearchResult } from '../../src/index.js';

/** Everything for people goes to stderr, so that stdout holds the JSON document and nothing else. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** A bar on a terminal, silence elsewhere: the line that follows says the same. */
export function progressBar(total: number): { update(done: number): void; stop(): void } {
  if (process.stderr.isTTY !== true) return { update: () => {}, stop: () => {} };
  const bar = new cliProgress.SingleBar({ format: '   {bar} {value}/{total} rows', stream: process.stderr });
  bar.start(total, 0);
  return { update: (done) => bar.update(done), stop: () => bar.stop() };
}

const SNIPPET = 140;

export function showResults(question: string, hits: SearchResult['results']): void {
  say(`\n   ${question}`);
  for (const { row, distance } of hits) {
    const text = String(row.body).replace(/\s+/g, ' ');
    say(`     ${distance.toFixed(3)}  ${row.package} › ${row.title}`);
    say(`            ${text.length > SNIPPET ? `${text.slice(0, SNIPPET)}…` : text}`);
  }
}
