import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Option } from 'commander';
import type { SourceDefinition, SourcePlan } from '../../source/index.js';
import type { Cli } from '../cli.js';
import { UsageError } from '../errors.js';
import { list, longTextsOption, whole } from '../flags.js';
import { describePlan } from '../plan.js';
import type { Register } from '../register.js';

type AddFlags = Omit<SourceDefinition, 'table' | 'content'> & {
  readonly content?: string[];
  readonly contentSql?: string;
  readonly yes?: boolean;
  readonly dryRun?: boolean;
  readonly sql?: string;
  readonly verify: boolean;
};

export const addCommand: Register = (source, act) => {
  source
    .command('add')
    .argument('<table>', 'as in SQL: notes, app.notes, \'"Odd name"\'')
    .description('keep the embeddings of a table fresh; first shows what it will do, and asks')
    .option('--content <columns>', 'columns to embed, joined in this order with a blank line', list)
    .option('--content-sql <expression>', 'or one SQL expression over the row')
    .requiredOption('--model <spec>', 'provider/name@dimensions, for example static/mini@256')
    .option('--where <condition>', 'only rows that pass this SQL condition')
    .option('--tenant <column>', 'column that says whose a row is')
    .addOption(longTextsOption('(refuse)'))
    .option('--name <name>', "name of the source (the table's)")
    .option('--column <name>', 'column of the vectors (embedding)')
    .option('--adopt', 'take over the vectors that the column holds, as made by the model from the present text')
    .option('--no-verify', 'do not embed a few rows first to see whether the model made them')
    .addOption(
      new Option('--store <store>', 'where the vectors are (column; table where columns would hurt)').choices([
        'column',
        'table',
      ]),
    )
    .addOption(new Option('--type <type>', 'of the vectors (vector)').choices(['vector', 'halfvec']))
    .addOption(new Option('--metric <metric>', 'distance (cosine)').choices(['cosine', 'l2', 'ip']))
    .addOption(new Option('--index <kind>', 'hnsw; none with --embedded').choices(['hnsw', 'none']))
    .option('--m <n>', 'HNSW: links of a node (16)', whole(2))
    .option('--ef-construction <n>', 'HNSW: candidates while building (64)', whole(4))
    .option('-y, --yes', 'do not ask')
    .option('--dry-run', 'only show what would be done')
    .option('--sql <file>', 'write the SQL to a file for a migration tool, and do nothing')
    .addHelpText(
      'after',
      '\nExample:\n  $ freshvec source add notes --content title,body --model static/mini@256 --yes\n' +
        '  $ freshvec source add notes --content body --model openai/text-embedding-3-small@1536 --adopt --column embedding',
    )
    .action(
      act(async (cli, table: string, flags: AddFlags) => {
        const plan = await cli.client.sources.plan(definition(table, flags));
        if (flags.sql !== undefined) return writeSql(cli, plan, flags.sql, flags.verify);
        if (plan.already)
          return answer(cli, plan, false, `The source "${plan.source.name}" is there already; nothing to do.`);
        if (flags.dryRun) return answer(cli, plan, false, describePlan(plan));
        if (!flags.yes) {
          if (!cli.interactive) {
            throw new UsageError(
              'Nobody is there to ask: say --yes to add the source, or --dry-run to see what that does.',
            );
          }
          cli.say(describePlan(plan));
          if (!(await cli.confirm('Do this?'))) return;
        }
        await cli.client.sources.apply(plan, {
          verify: flags.verify,
          onRetry: (attempt, reason) => cli.say(`Waiting for the table, try ${attempt}: ${reason}`),
        });
        answer(
          cli,
          plan,
          true,
          `Added the source "${plan.source.name}". \`freshvec work\` or \`freshvec up\` ${plan.adopts > 0 ? 'takes its vectors over and embeds the other rows' : 'embeds its rows'}.`,
        );
      }),
    );
};

function definition(table: string, flags: AddFlags): SourceDefinition {
  const { content, contentSql, yes: _yes, dryRun: _dryRun, sql: _sql, verify: _verify, ...rest } = flags;
  if ((content === undefined) === (contentSql === undefined)) {
    throw new UsageError('Say what to embed: either --content COLUMN,… or --content-sql EXPRESSION.');
  }
  return { ...rest, table, content: contentSql === undefined ? { columns: content ?? [] } : { sql: contentSql } };
}

async function writeSql(cli: Cli, plan: SourcePlan, file: string, verify: boolean): Promise<void> {
  if (plan.already)
    return answer(cli, plan, false, `The source "${plan.source.name}" is there already; no SQL was written.`);
  if (verify) await cli.client.sources.verify(plan);
  await writeFile(resolve(cli.io.cwd, file), cli.client.sources.sql(plan));
  answer(cli, plan, false, `Wrote ${file}. Run it, then this command again without --sql.`, file);
}

function answer(cli: Cli, plan: SourcePlan, applied: boolean, text: string, file?: string): void {
  cli.answer({ applied, ...(file === undefined ? {} : { file }), plan }, () => text);
}
