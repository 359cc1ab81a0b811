import type { ReindexReport, ReindexRequest } from '../../maintenance/reindex-source.js';
import { showBuild } from '../build-progress.js';
import { UsageError } from '../errors.js';
import { whole } from '../flags.js';
import type { Register } from '../register.js';
import { bytesText } from '../table.js';

interface ReindexFlags {
  readonly index?: string;
  readonly m?: number;
  readonly efConstruction?: number;
  readonly yes?: boolean;
}

export const reindexCommand: Register = (program, act) => {
  program
    .command('reindex')
    .argument('<source>')
    .description('build its vector index again, or one with other parameters in its place, while searches go on')
    .option('--index <kind>', 'hnsw, or none: exact search')
    .option('--m <n>', 'HNSW: links of each vector, 2 to 100', whole(2))
    .option('--ef-construction <n>', 'HNSW: candidates while building, 4 to 1000', whole(4))
    .option('-y, --yes', 'do not ask before the index is dropped for good')
    .addHelpText('after', '\nExample:\n  $ freshvec reindex notes --index hnsw --m 24 --ef-construction 128')
    .action(
      act(async (cli, source: string, { yes, ...flags }: ReindexFlags) => {
        const request = { ...flags, index: kindOf(flags.index) };
        if (request.index === 'none' && !yes) {
          if (!cli.interactive) throw new UsageError('Nobody is there to ask: say --yes to drop the index.');
          if (!(await cli.confirm(`Drop the vector index of "${source}", and search it exactly?`))) return;
        }
        const options = { signal: cli.io.stopSignal(), onProgress: showBuild(cli) };
        const report = await cli.client.maintenance.reindex(source, request, options);
        cli.answer(report, () => describe(report));
      }),
    );
};

function kindOf(text: string | undefined): ReindexRequest['index'] {
  if (text === undefined || text === 'hnsw' || text === 'none') return text;
  throw new UsageError(`--index is hnsw or none, not "${text}".`);
}

const SAID: Readonly<Record<ReindexReport['outcome'], string>> = {
  rebuilt: 'The index was built again.',
  swapped: 'The new index has taken the place of the old one.',
  built: 'The index is built.',
  dropped: 'The index is gone: searches are exact.',
  already: 'It is like that already.',
  later: 'It will be built once the first pass over the data is done.',
};

function describe({ outcome, runs }: ReindexReport): string {
  const sizes = runs
    .filter(({ bytesAfter }) => bytesAfter !== null)
    .map((run) => {
      const recall =
        run.recallAfter === null
          ? ''
          : `, recall ${run.recallBefore?.toFixed(3) ?? '?'} → ${run.recallAfter.toFixed(3)}`;
      return `  ${run.index ?? ''} ${bytesText(run.bytesBefore ?? 0)} → ${bytesText(run.bytesAfter ?? 0)}${recall}`;
    });
  return [SAID[outcome], ...sizes].join('\n');
}
