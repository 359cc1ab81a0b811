import type { Register } from '../../register.js';
import { addSpaceFlags, definitionOf, type SpaceFlags } from './flags.js';
import { describeReembed } from './text.js';

export const planCommand: Register = (reembed, act) => {
  const command = reembed
    .command('plan')
    .argument('<source>')
    .description('what a move would do, cost and lock, and what would make it fail; changes nothing');
  addSpaceFlags(command)
    .addHelpText('after', '\nExample:\n  $ freshvec reembed plan notes --model openai/text-embedding-3-large@1024')
    .action(
      act(async (cli, source: string, flags: SpaceFlags) => {
        const plan = await cli.client.reembed.plan(source, definitionOf(flags));
        cli.answer({ plan }, () => describeReembed(plan));
      }),
    );
};
