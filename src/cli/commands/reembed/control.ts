import { createInterface } from 'node:readline/promises';
import type { Cli } from '../../cli.js';
import { UsageError } from '../../errors.js';
import type { Register } from '../../register.js';
import { describeStatus } from './text.js';

type Verb = 'pause' | 'resume' | 'cutover' | 'rollback' | 'abort';

const VERBS: Readonly<Record<Verb, string>> = {
  pause: 'rest the backfill and all further steps; edits go on being embedded for both models',
  resume: 'go on, whoever paused it or whatever parked it',
  cutover: 'answer searches with the new model; the old vectors are kept fresh',
  rollback: 'answer searches with the old model again; nothing was lost',
  abort: 'give the new vectors up and drop them',
};

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
