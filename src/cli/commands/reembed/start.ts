import type { ReembedStartOptions } from '../../../client/reembed.js';
import { UsageError } from '../../errors.js';
import { duration } from '../../flags.js';
import type { Register } from '../../register.js';
import { addSpaceFlags, definitionOf, dollars, type SpaceFlags, share } from './flags.js';
import { queriesOf } from './measure.js';
import { describeReembed, describeStatus } from './text.js';

type StartFlags = SpaceFlags & {
  readonly auto?: boolean;
  readonly until?: number;
  readonly retain?: number;
  readonly spendCap?: number;
  readonly queries?: string;
  readonly verify: boolean;
  readonly yes?: boolean;
};

export const startCommand: Register = (reembed, act) => {
  const command = reembed
    .command('start')
    .argument('<source>')
    .description('start a move; first shows what it will do, and asks');
  addSpaceFlags(command)
    .option('--auto', 'switch by itself once every gate holds')
    .option('--until <share>', 'rest after this share of the rows, such as 10%, until it is resumed', share)
    .option(
      '--retain <time>',
      'drop the old vectors so long after the switch (7d); without it only `complete` does',
      duration,
    )
    .option('--spend-cap <usd>', 'rest once the new vectors have cost so many dollars; until the switch', dollars)
    .option(
      '--queries <file>',
      'labelled queries that the new model must answer as well: JSON lines of {"query", "relevant", "tenant"?}',
    )
    .option('--no-verify', 'with --adopt: do not embed a few rows first to see whether the model made the vectors')
    .option('-y, --yes', 'do not ask')
    .addHelpText('after', '\nExample:\n  $ freshvec reembed start notes --model static/mini@256 --yes')
    .action(
      act(async (cli, source: string, flags: StartFlags) => {
        const plan = await cli.client.reembed.plan(source, definitionOf(flags));
        if (!flags.yes && plan.blockers.length === 0) {
          if (!cli.interactive) {
            throw new UsageError(
              'Nobody is there to ask: say --yes to start, or `reembed plan` to see what that does.',
            );
          }
          cli.say(describeReembed(plan));
          if (!(await cli.confirm('Start?'))) return;
        }
        const { auto, until, retain, spendCap, verify } = flags;
        const queries = await queriesOf(cli, flags.queries);
        const options: ReembedStartOptions = { auto, until, retainSeconds: retain, spendCap, queries, verify };
        const migration = await cli.client.reembed.start(plan, options);
        cli.answer(
          { migration },
          () =>
            `${describeStatus(migration)}\nWorkers with the role reembed carry it out: \`freshvec up\`, or \`node dist/workers/reembed.js\`.`,
        );
      }),
    );
};
