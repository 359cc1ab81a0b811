import { UsageError } from '../errors.js';
import type { Register } from '../register.js';

export const uninstallCommand: Register = (program, act) => {
  program
    .command('uninstall')
    .description('take freshvec away: triggers, functions, vectors, its own tables and queues')
    .option('--keep-vectors', "leave the vectors that stand in the app's own tables")
    .option('-y, --yes', 'do not ask')
    .addHelpText('after', '\nExample:\n  $ freshvec uninstall --keep-vectors --yes')
    .action(
      act(async (cli, { keepVectors = false, yes = false }: { keepVectors?: boolean; yes?: boolean }) => {
        cli.forwards = false;
        if (!yes && !cli.interactive) throw new UsageError('Nobody is there to ask: say --yes to uninstall freshvec.');
        const question = `Take freshvec${keepVectors ? '' : ' and all vectors'} out of this database?`;
        if (!yes && !(await cli.confirm(question))) return;
        const { sources, notes } = await cli.client.uninstall({ dropVectors: !keepVectors });
        for (const note of notes) cli.say(note);
        cli.answer(
          { uninstalled: true, sources, ...(notes.length > 0 ? { notes } : {}) },
          () => `freshvec is gone from this database; sources removed: ${sources.join(', ') || 'none'}.`,
        );
      }),
    );
};
