import { duration } from '../flags.js';
import type { Register } from '../register.js';
import { untilText } from '../table.js';

export const pauseCommands: Register = (program, act) => {
  program
    .command('pause')
    .argument('<source>')
    .description('leave a source alone: its changes are noticed, and embedded once it is resumed')
    .option('--reason <text>', 'shown by `freshvec status`')
    .option('--for <time>', 'resume by itself after so long: 90s, 15m, 2h or 7d', duration)
    .addHelpText('after', '\nExample:\n  $ freshvec pause notes --reason "import under way" --for 2h')
    .action(
      act(async (cli, source: string, { reason, for: seconds }: { reason?: string; for?: number }) => {
        const { reason: why, until } = await cli.client.pause(source, { reason, seconds });
        const text = () => `${source} is paused: ${why} (${untilText(until)}).`;
        cli.answer({ source, paused: true, reason: why, until }, text);
      }),
    );

  program
    .command('resume')
    .argument('<source>')
    .description('end every pause of a source, by whomever: a person, the spend cap or its provider')
    .addHelpText('after', '\nExample:\n  $ freshvec resume notes')
    .action(
      act(async (cli, source: string) => {
        const was = await cli.client.resume(source);
        const text = () => (was ? `${source} is worked on again.` : `${source} was not paused.`);
        cli.answer({ source, paused: false, reason: null, until: null }, text);
      }),
    );
};
