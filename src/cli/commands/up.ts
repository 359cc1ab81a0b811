import type { Register } from '../register.js';
import { stay } from '../stay.js';

export const upCommand: Register = (program, act) => {
  program
    .command('up')
    .description('workers, maintenance and migrations in one process, until SIGTERM or Ctrl-C')
    .addHelpText('after', '\nExample:\n  $ freshvec up --embedded')
    .action(act((cli) => stay(cli, ['embed', 'maintain', 'reembed'])));
};
