import type { LongTexts } from '../../catalog/long-texts.js';
import type { SourceChanges } from '../../source/index.js';
import { UsageError } from '../errors.js';
import { list, longTextsOption } from '../flags.js';
import { describeStatements } from '../plan.js';
import type { Register } from '../register.js';

interface AlterFlags {
  readonly content?: string[];
  readonly contentSql?: string;
  readonly where?: string | false;
  readonly longTexts?: LongTexts;
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

export const alterCommand: Register = (source, act) => {
  source
    .command('alter')
    .argument('<name>')
    .description('change content, filter or what becomes of long texts; what that makes stale is embedded again')
    .option('--content <columns>', 'columns to embed, joined in this order with a blank line', list)
    .option('--content-sql <expression>', 'or one SQL expression over the row')
    .option('--where <condition>', 'only rows that pass this SQL condition')
    .option('--no-where', 'all rows again')
    .addOption(longTextsOption())
    .option('-y, --yes', 'do not ask')
    .option('--dry-run', 'only show what would be done')
    .addHelpText('after', '\nExample:\n  $ freshvec source alter notes --content title,body,tags --yes')
    .action(
      act(async (cli, name: string, flags: AlterFlags) => {
        const wanted = changes(flags);
        const plan = await cli.client.sources.planAlter(name, wanted);
        const told = describeStatements(plan.statements) || 'Nothing changes.';
        if (flags.dryRun || plan.statements.length === 0) return cli.answer({ applied: false, plan }, () => told);
        if (!flags.yes) {
          if (!cli.interactive)
            throw new UsageError('Nobody is there to ask: say --yes, or --dry-run to see what that does.');
          cli.say(told);
          if (!(await cli.confirm('Do this?'))) return;
        }
        const done = await cli.client.sources.alter(name, wanted);
        cli.answer({ applied: true, plan: done }, () => `Changed the source "${name}".`);
      }),
    );
};

function changes({ content, contentSql, where, longTexts }: AlterFlags): SourceChanges {
  if (content !== undefined && contentSql !== undefined)
    throw new UsageError('Give --content or --content-sql, not both.');
  const wanted: SourceChanges = {
    ...(content === undefined ? {} : { content: { columns: content } }),
    ...(contentSql === undefined ? {} : { content: { sql: contentSql } }),
    ...(typeof where === 'string' ? { where } : {}),
    ...(where === false ? { where: null } : {}),
    ...(longTexts === undefined ? {} : { longTexts }),
  };
  if (Object.keys(wanted).length > 0) return wanted;
  throw new UsageError('Say what to change: --content, --content-sql, --where, --no-where or --long-texts.');
}
