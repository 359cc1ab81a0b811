import type { Register } from '../register.js';
import { keyText, table } from '../table.js';

const HOW = { truncate: 'truncated', chunk: 'chunked' };

export const longTextsCommand: Register = (source, act) => {
  source
    .command('long-texts')
    .argument('[name]', 'only of this one')
    .description('rows whose vector is of the beginning, or of pieces, of a text that is too long for the model')
    .addHelpText('after', '\nExample:\n  $ freshvec source long-texts notes')
    .action(
      act(async (cli, name: string | undefined) => {
        const longTexts = await cli.client.sources.longTexts(name);
        cli.answer({ longTexts }, () => {
          if (longTexts.length === 0) return 'No vector is of a text that was too long.';
          const rows = longTexts.map((l) => [
            l.source,
            keyText(l.key),
            HOW[l.how],
            l.tokens,
            l.maxTokens,
            l.pieces,
            l.at.toISOString(),
          ]);
          return table(['source', 'key', 'how', 'tokens', 'at most', 'pieces', 'at'], rows);
        });
      }),
    );
};
