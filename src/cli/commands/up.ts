import { serve } from '../../client/serve.js';
import type { Register } from '../register.js';

export const upCommand: Register = (program, act) => {
  program
    .command('up')
    .description('workers and maintenance in one process, until SIGTERM or Ctrl-C')
    .addHelpText('after', '\nExample:\n  $ freshvec up --embedded')
    .action(
      act(async (cli) => {
        await serve(await cli.config(), ['embed', 'maintain'], cli.log, cli.io.stopSignal());
        cli.answer({ stopped: true }, () => '');
      }),
    );
};
