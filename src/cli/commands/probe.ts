import { acceptModel, checkModel } from '../../client/probe.js';
import type { Register } from '../register.js';

export const probeCommands: Register = (program, act) => {
  const probe = program
    .command('probe')
    .description('whether a model is still the one behind its name')
    .addHelpText('after', '\nExample:\n  $ freshvec probe check openai/text-embedding-3-small@1536');

  probe
    .command('check')
    .argument('<model>', 'provider/name@dimensions')
    .description('ask it for a few fixed texts, and compare with what it gave first')
    .addHelpText('after', '\nExample:\n  $ freshvec probe check openai/text-embedding-3-small@1536')
    .action(
      act(async (cli, spec: string) => {
        const onError = (err: unknown) => cli.log.warn({ err }, 'an error that was survived');
        const probed = await checkModel(await cli.client.database(), await cli.config(), spec, onError);
        cli.answer(probed, () =>
          probed.result === 'first'
            ? `${probed.model}: from now on this is what it is compared with.`
            : `${probed.model}: the same.`,
        );
      }),
    );

  probe
    .command('accept')
    .argument('<model>', 'provider/name@dimensions')
    .description('take it as it is now: writing goes on, beside the vectors that it made before')
    .addHelpText('after', '\nExample:\n  $ freshvec probe accept openai/text-embedding-3-small@1536')
    .action(
      act(async (cli, spec: string) => {
        const { models } = await cli.config();
        const answer = await acceptModel(await cli.client.database(), models, spec);
        cli.answer(answer, () =>
          answer.accepted ? `${answer.model}: accepted as it is now.` : `${answer.model}: nothing was on record.`,
        );
      }),
    );
};
