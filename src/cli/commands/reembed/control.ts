import { createInterface } from 'node:readline/promises';
import type { Cli } from '../../cli.js';
import { UsageError } from '../../errors.js';
import type { Register } from '../../register.js';
import { dollars } from './flags.js';
import { describeStatus } from './text.js';

type Verb = 'pause' | 'rollback' | 'abort';

const VERBS: Readonly<Record<Verb, string>> = {
  pause: 'rest the backfill and all further steps; edits go on being embedded for both models',
  rollback: 'answer searches with the old model again; nothing was lost',
  abort: 'give the new vectors up and drop them',
};

const RENAME_CAVEAT = `The columns of the old and the new vectors exchange their names, in one transaction with the switch.
  - It is atomic in the database, but not with the process that embeds a query for SQL of your own: what it embedded with
    the old model just before meets the new model's vectors just after (19 of 9,670 queries in a test). freshvec's own
    search checks, and never does.
  - Views and functions follow the column or its name, whichever they were made with; the command refuses while views
    stand on these columns. Prepared statements with SELECT * fail once.
  - The table is locked for milliseconds. \`rollback\` changes the names back.`;

export const controlCommands: Register = (reembed, act) => {
  for (const verb of Object.keys(VERBS) as Verb[]) {
    reembed
      .command(verb)
      .argument('<source>')
      .description(VERBS[verb])
      .addHelpText('after', `\nExample:\n  $ freshvec reembed ${verb} notes`)
      .action(
        act(async (cli, source: string) => {
          const migration = await cli.client.reembed[verb](source);
          cli.answer({ migration }, () => describeStatus(migration));
        }),
      );
  }

  reembed
    .command('resume')
    .argument('<source>')
    .description('go on after `reembed pause`, `--until` or parking')
    .option('--spend-cap <usd>', 'the new vectors may cost so many dollars in all, until the switch', dollars)
    .addHelpText('after', '\nExample:\n  $ freshvec reembed resume notes')
    .action(
      act(async (cli, source: string, { spendCap }: { spendCap?: number }) => {
        const migration = await cli.client.reembed.resume(source, { spendCap });
        cli.answer({ migration }, () => describeStatus(migration));
      }),
    );

  reembed
    .command('cutover')
    .argument('<source>')
    .description('answer searches with the new model; the old vectors are kept fresh')
    .option('--rename', 'old and new columns exchange their names, for SQL of your own that names the column; asks')
    .option('-y, --yes', 'with --rename: do not ask')
    .addHelpText('after', '\nExample:\n  $ freshvec reembed cutover notes')
    .action(
      act(async (cli, source: string, { rename = false, yes = false }: { rename?: boolean; yes?: boolean }) => {
        if (yes && !rename) throw new UsageError('--yes goes with --rename: without it nothing is asked.');
        if (rename) {
          cli.say(RENAME_CAVEAT);
          if (!yes && !cli.interactive) throw new UsageError('Nobody is there to ask: say --yes to rename.');
          if (!yes && !(await cli.confirm('Switch and rename?'))) return;
        }
        const migration = await cli.client.reembed.cutover(source, { rename });
        cli.answer({ migration }, () => describeStatus(migration));
      }),
    );

  reembed
    .command('accept')
    .argument('<source>')
    .argument('<gates...>', 'names as `reembed status` shows them')
    .description('let gates pass that do not hold; never those without which rows would be missing')
    .addHelpText('after', '\nExample:\n  $ freshvec reembed accept notes recall')
    .action(
      act(async (cli, source: string, gates: string[]) => {
        const migration = await cli.client.reembed.accept(source, gates);
        cli.answer({ migration }, () => describeStatus(migration));
      }),
    );

  reembed
    .command('complete')
    .argument('<source>')
    .description('drop the old vectors, for good; asks for the name of the source')
    .option('--confirm <name>', 'the name of the source, where nobody is there to ask')
    .addHelpText('after', '\nExample:\n  $ freshvec reembed complete notes --confirm notes')
    .action(
      act(async (cli, source: string, { confirm }: { confirm?: string }) => {
        const name = confirm ?? (await askName(cli, source));
        if (name !== source) {
          throw new UsageError(`Nothing was dropped: "${name}" is not the name of the source, "${source}".`);
        }
        const migration = await cli.client.reembed.complete(source);
        cli.answer({ migration }, () => describeStatus(migration));
      }),
    );
};

async function askName(cli: Cli, source: string): Promise<string> {
  if (!cli.interactive) throw new UsageError(`Nobody is there to ask: say --confirm ${source}.`);
  const { from } = await cli.client.reembed.status(source);
  const terminal = createInterface({ input: cli.io.stdin, output: cli.io.stderr });
  const closed = new Promise<string>((resolve) => terminal.once('close', () => resolve('')));
  const question = `The vectors of ${from} are dropped; there is no way back.\nThe name of the source, to go on: `;
  const answer = await Promise.race([terminal.question(question), closed]);
  terminal.close();
  return answer.trim();
}
