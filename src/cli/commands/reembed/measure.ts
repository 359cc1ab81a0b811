import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { LabelledQuery } from '../../../catalog/migration.js';
import { renderComparison, renderCosts } from '../../../reembed/compare/text.js';
import { renderHtml } from '../../../reembed/eval/html.js';
import { parseQueries } from '../../../reembed/eval/queries.js';
import { renderText } from '../../../reembed/eval/text.js';
import type { Cli } from '../../cli.js';
import { UsageError } from '../../errors.js';
import { list, whole } from '../../flags.js';
import type { Register } from '../../register.js';

/** Labelled queries from a file; undefined where none is named. */
export async function queriesOf(cli: Cli, file: string | undefined): Promise<LabelledQuery[] | undefined> {
  if (file === undefined) return undefined;
  const text = await readFile(resolve(cli.io.cwd, file), 'utf8').catch((error: unknown) => {
    throw new UsageError(`--queries ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`);
  });
  return parseQueries(text);
}

interface EvalFlags {
  readonly queries?: string;
  readonly html?: string;
}

interface CompareFlags {
  readonly models: string[];
  readonly queries?: string;
  readonly sample?: number;
  readonly yes?: boolean;
}

export const measureCommands: Register = (reembed, act) => {
  reembed
    .command('eval')
    .argument('<source>')
    .description('measure the old and the new vectors: gates, recall, latency, your labelled queries; changes nothing')
    .option('--queries <file>', 'labelled queries: JSON or JSON lines of {"query", "relevant": [keys], "tenant"?}')
    .option('--html <file>', 'write the report as one self-contained page')
    .addHelpText('after', '\nExample:\n  $ freshvec reembed eval notes --queries queries.jsonl --html report.html')
    .action(
      act(async (cli, source: string, { queries, html }: EvalFlags) => {
        const report = await cli.client.reembed.evaluate(source, { queries: await queriesOf(cli, queries) });
        if (html !== undefined) await writeFile(resolve(cli.io.cwd, html), renderHtml(report));
        const wrote = html === undefined ? '' : `\nWrote ${html}.`;
        cli.answer({ report, ...(html !== undefined && { file: html }) }, () => `${renderText(report)}${wrote}`);
      }),
    );

  reembed
    .command('compare')
    .argument('<source>')
    .description('embed a sample with each model, in memory, and say which finds more, before the whole is paid for')
    .requiredOption(
      '--models <specs>',
      'two or more, with commas; the first is what the others are compared with',
      list,
    )
    .option('--queries <file>', 'labelled queries; without them they are derived from the sample')
    .option('--sample <rows>', 'rows to embed with each model (500)', whole(2))
    .option('-y, --yes', 'do not ask')
    .addHelpText(
      'after',
      '\nExample:\n  $ freshvec reembed compare notes --models static/mini@256,openai/text-embedding-3-small@512',
    )
    .action(
      act(async (cli, source: string, flags: CompareFlags) => {
        const request = {
          models: flags.models,
          queries: await queriesOf(cli, flags.queries),
          sampleRows: flags.sample,
        };
        const costs = await cli.client.reembed.comparisonCost(source, request);
        if (!flags.yes && costs.some(({ usd }) => usd !== 0)) {
          if (!cli.interactive)
            throw new UsageError(`This costs money, and nobody is there to ask: say --yes.\n${renderCosts(costs)}`);
          cli.say(renderCosts(costs));
          if (!(await cli.confirm('Send these texts?'))) return;
        }
        const comparison = await cli.client.reembed.compare(source, request);
        cli.answer({ comparison }, () => renderComparison(comparison));
      }),
    );
};
