import type { Register } from '../../register.js';
import { controlCommands } from './control.js';
import { measureCommands } from './measure.js';
import { planCommand } from './plan.js';
import { startCommand } from './start.js';
import { statusCommand } from './status.js';

export const reembedCommands: Register = (program, act) => {
  const reembed = program
    .command('reembed')
    .description('move a source to another model, type, metric or store while it is searched, and back')
    .addHelpText('after', '\nExample:\n  $ freshvec reembed plan notes --model openai/text-embedding-3-large@1024');
  for (const register of [planCommand, startCommand, statusCommand, controlCommands, measureCommands])
    register(reembed, act);
};
