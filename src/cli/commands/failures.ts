import type { Register } from '../register.js';
import { excerpt, keyText, table } from '../table.js';

export const failureCommands: Register = (program, act) => {
  const failures = program
    .command('failures')
    .description('rows whose text cannot be embedded')
    .addHelpText('after', '\nExample:\n  $ freshvec failures list');

  failures
    .command('list')
    .argument('[source]', 'only of this one')
    .description('which, and why')
    .addHelpText('after', '\nExample:\n  $ freshvec failures list notes')
    .action(
      act(async (cli, source: string | undefined) => {
        const list = await cli.client.failures.list(source);
        cli.answer({ failures: list }, () => {
          if (list.length === 0) return 'No failures.';
          const rows = list.map((f) => [
            f.source,
            keyText(f.key),
            f.code,
            excerpt(f.message, 70),
            f.attempts,
            f.at.toISOString(),
          ]);
          return table(['source', 'key', 'code', 'message', 'attempts', 'at'], rows);
        });
      }),
    );

  failures
    .command('retry')
    .argument('<source>')
    .argument('[keys...]', 'only these; all of them without')
    .description('put them back to work')
    .addHelpText('after', '\nExample:\n  $ freshvec failures retry notes 42')
    .action(
      act(async (cli, source: string, keys: string[]) => {
        const retried = await cli.client.failures.retry(source, keys.length > 0 ? keys : undefined);
        cli.answer({ retried }, () => `${retried} put back.`);
      }),
    );

  failures
    .command('discard')
    .argument('<source>')
    .argument('[keys...]', 'only these; all of them without')
    .description('take them off the list: the text as it is stays without a vector, an edit of it is tried again')
    .addHelpText('after', '\nExample:\n  $ freshvec failures discard notes 42')
    .action(
      act(async (cli, source: string, keys: string[]) => {
        const discarded = await cli.client.failures.discard(source, keys.length > 0 ? keys : undefined);
        cli.answer({ discarded }, () => `${discarded} discarded.`);
      }),
    );
};
