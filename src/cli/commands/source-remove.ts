import { UsageError } from '../errors.js';
import type { Register } from '../register.js';

export const removeCommand: Register = (source, act) => {
  source
    .command('remove')
    .argument('<name>')
    .description('stop keeping a table fresh; the vectors stay unless --drop-vectors')
    .option('--drop-vectors', 'drop them too, for good')
    .option('-y, --yes', 'do not ask')
    .addHelpText('after', '\nExample:\n  $ freshvec source remove notes --drop-vectors --yes')
    .action(
      act(async (cli, name: string, { dropVectors = false, yes = false }: { dropVectors?: boolean; yes?: boolean }) => {
        await cli.client.sources.show(name);
        if (!yes && !cli.interactive) throw new UsageError('Nobody is there to ask: say --yes to remove the source.');
        const question = `Remove the source "${name}"${dropVectors ? ' and drop its vectors' : ''}?`;
        if (!yes && !(await cli.confirm(question))) return;
        const { notes } = await cli.client.sources.remove(name, {
          dropVectors,
          onRetry: (attempt, reason) => cli.say(`Waiting for the table, try ${attempt}: ${reason}`),
        });
        cli.answer({ removed: name, vectorsDropped: dropVectors, ...(notes.length > 0 ? { notes } : {}) }, () =>
          [`Removed the source "${name}".`, ...notes].join('\n'),
        );
      }),
    );
};
