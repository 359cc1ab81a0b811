import { UsageError } from '../errors.js';
import type { Register } from '../register.js';

export const uninstallCommand: Register = (program, act) => {
  program
    .command('uninstall')
    .description('take freshvec away: triggers, functions, vectors, its own tables')
    .option('--keep-vectors', "leave the vectors that stand in the app's own tables")
    .option('-y, --yes', 'do not ask')
    .addHelpText('after', '\nExample:\n  $ freshvec uninstall --keep-vectors --yes')
    .action(
      act(async (cli, { keepVectors = false, yes = false }: { keepVectors?: boolean; yes?: boolean }) => {
        if (!yes && !cli.interactive) throw new UsageError('Nobody is there to ask: say --yes to uninstall freshvec.');
        const question = `Take freshvec${keepVectors ? '' : ' and all vectors'} out of this database?`;
        if (!yes && !(await cli.confirm(question))) return;
        const { sources } = await cli.client.uninstall({ dropVectors: !keepVectors });
        cli.answer(
          { uninstalled: true, sources },
          () => `freshvec is gone from this database; sources removed: ${sources.join(', ') || 'none'}.`,
        );
      }),
    );
};
