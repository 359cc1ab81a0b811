import type { SpaceCoverage } from '../../client/space-coverage.js';
import type { SearchResult } from '../../search/index.js';
import { pairs, whole } from '../flags.js';
import type { Register } from '../register.js';
import { excerpt, keyText, table } from '../table.js';

interface SearchFlags {
  readonly k?: number;
  readonly where?: Record<string, string>;
  readonly tenant?: string;
  readonly efSearch?: number;
  readonly space?: number;
}

export const searchCommand: Register = (program, act) => {
  program
    .command('search')
    .argument('<source>')
    .argument('<text>', 'what to look for; it is embedded with the live model, or that of --space')
    .description('the rows nearest to a text')
    .option('-k, --k <n>', 'how many (10)', whole(1))
    .option('--where <column=value>', 'only rows with this value; may be given again', pairs)
    .option('--tenant <value>', 'only rows of this tenant')
    .option('--ef-search <n>', 'candidates that the index looks at (80): more is slower and finds more', whole(1))
    .option('--space <id>', 'look into this space, which need not be live: `reembed status` names them', whole(1))
    .addHelpText('after', '\nExample:\n  $ freshvec search notes "how do I bake bread" -k 3 --where language=en')
    .action(
      act(async (cli, source: string, text: string, flags: SearchFlags) => {
        const result = await cli.client.search(source, { text, ...flags });
        if (result.coverage !== undefined && result.coverage < 1) cli.say(partial(result));
        cli.answer(result, () => describe(result));
      }),
    );
};

function partial({ space, coverage = 1 }: SearchResult & SpaceCoverage): string {
  const share = Math.floor(coverage * 100);
  return `Space ${space} is still being filled: about ${share} % of the rows have their vectors there, the others are not found.`;
}

function describe({ results, epoch }: SearchResult): string {
  if (results.length === 0) return epoch === 0 ? 'No space of this source is live.' : 'Nothing found.';
  const rows = results.map(({ key, distance, stale, row }) => [
    keyText(key),
    distance.toFixed(4),
    stale ? 'stale' : '',
    excerpt(
      Object.values(row)
        .filter((value) => typeof value === 'string')
        .join(' · '),
      80,
    ),
  ]);
  return table(['key', 'distance', '', 'row'], rows);
}
