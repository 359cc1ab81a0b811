import type { Migration } from '../../catalog/schema.js';
import type { Register } from '../register.js';

export const schemaCommands: Register = (program, act) => {
  const schema = program
    .command('schema')
    .description("freshvec's own tables")
    .addHelpText('after', '\nExample:\n  $ freshvec schema apply');

  schema
    .command('apply')
    .description('create them, or bring them up to date; may run twice, and at once')
    .addHelpText('after', '\nExample:\n  $ DATABASE_URL=postgres://localhost/app freshvec schema apply')
    .action(
      act(async (cli) => {
        cli.reachMs = undefined; // A deployment may start us before its database is up.
        const { applied, current } = await cli.client.schema.apply();
        cli.answer({ applied, current }, () =>
          applied.length === 0
            ? `Already at version ${current}.`
            : `Applied ${names(applied)}; now at version ${current}.`,
        );
      }),
    );

  schema
    .command('status')
    .description('which version is there, and what is missing')
    .addHelpText('after', '\nExample:\n  $ freshvec schema status --json')
    .action(
      act(async (cli) => {
        const status = await cli.client.schema.status();
        cli.answer(status, () => {
          const { current, latest, pending, tooNew, queueBackend } = status;
          if (tooNew.length > 0) return `Version ${current} is newer than this freshvec knows: ${names(tooNew)}.`;
          if (current === 0) return 'Not there yet. Run `freshvec schema apply`.';
          if (pending.length > 0)
            return `Version ${current} of ${latest}; missing: ${names(pending)}. Run \`freshvec schema apply\`.`;
          return `Version ${current}, up to date. Queue: ${queueBackend ?? 'not recorded'}.`;
        });
      }),
    );

  schema
    .command('grant')
    .argument('<role>', 'database role of an app')
    .description('let a role enqueue, search and wait until a row is fresh, and nothing more')
    .option('--dry-run', 'only show the SQL')
    .addHelpText('after', '\nExample:\n  $ freshvec schema grant web --dry-run')
    .action(
      act(async (cli, role: string, options: { dryRun?: boolean }) => {
        const sql = await cli.client.schema.grant(role, options);
        const granted = options.dryRun !== true;
        cli.answer({ role, granted, sql }, () => sql.map((statement) => `${statement};`).join('\n'));
      }),
    );
};

function names(migrations: readonly Migration[]): string {
  return migrations.map(({ version, name }) => `${String(version).padStart(4, '0')}_${name}`).join(', ');
}
