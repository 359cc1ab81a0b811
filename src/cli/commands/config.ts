import { maskConfig } from '../../config/mask.js';
import type { Register } from '../register.js';

export const configCommands: Register = (program, act) => {
  const config = program
    .command('config')
    .description('the configuration')
    .addHelpText('after', '\nExample:\n  $ freshvec config print');

  config
    .command('print')
    .description('what flags, environment, file and defaults come to; secrets masked')
    .addHelpText('after', '\nExample:\n  $ REDIS_URL=redis://localhost freshvec config print')
    .action(
      act(async (cli) => {
        const shown = maskConfig(await cli.config());
        cli.answer(shown, () => JSON.stringify(shown, null, 2));
      }),
    );
};
