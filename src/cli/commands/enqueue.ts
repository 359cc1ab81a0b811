import type { Register } from '../register.js';

export const enqueueCommand: Register = (program, act) => {
  program
    .command('enqueue')
    .argument('<source>', 'name of a source, or of its table')
    .argument('<keys...>', 'keys of rows; a key of several columns as a JSON object or array')
    .description('say that rows may be stale')
    .option('--force', 'embed, and pay, even if the text did not change')
    .addHelpText('after', '\nExample:\n  $ freshvec enqueue notes 42 43 --force')
    .action(
      act(async (cli, source: string, keys: string[], options: { force?: boolean }) => {
        const enqueued = await cli.client.enqueueNow(source, keys, options);
        cli.answer({ enqueued }, () => `${enqueued} enqueued.`);
      }),
    );
};
