import type { AutovacuumProposal } from '../../maintenance/autovacuum.js';
import type { MaintenanceReport } from '../../maintenance/list.js';
import type { MaintenanceRun } from '../../maintenance/run-log.js';
import { SERVICE_NAMES } from '../../maintenance/services.js';
import { showBuild } from '../build-progress.js';
import type { Cli } from '../cli.js';
import { UsageError } from '../errors.js';
import { whole } from '../flags.js';
import { EXIT } from '../io.js';
import type { Register } from '../register.js';
import { bytesText, excerpt, table } from '../table.js';

interface RunFlags {
  readonly source?: string;
  readonly yes?: boolean;
}

const SETTINGS = 'settings';

export const maintainCommands: Register = (program, act) => {
  const maintain = program
    .command('maintain')
    .description('scheduled upkeep: indexes, vacuums, statistics, sweeps')
    .addHelpText('after', '\nExample:\n  $ freshvec maintain list');

  maintain
    .command('list')
    .description('services and when they run, what their last runs did, and settings that are proposed')
    .option('--limit <n>', 'so many runs, the newest', whole(1), 50)
    .addHelpText('after', '\nExample:\n  $ freshvec maintain list --json')
    .action(
      act(async (cli, { limit }: { limit: number }) => {
        const report = await cli.client.maintenance.list({ limit });
        cli.answer(report, () => describe(report));
      }),
    );

  maintain
    .command('run')
    .argument('<service>', `${SERVICE_NAMES.join(', ')}; or ${SETTINGS}: what \`maintain list\` proposes`)
    .description('give a service a turn now, outside its window too')
    .option('--source <name>', 'only what belongs to this source')
    .option('-y, --yes', `do not ask, for ${SETTINGS}`)
    .addHelpText('after', '\nExample:\n  $ freshvec maintain run vacuum --source notes')
    .action(
      act(async (cli, service: string, flags: RunFlags) => {
        if (service === SETTINGS) return runSettings(cli, flags);
        if (flags.yes) throw new UsageError(`--yes is for \`maintain run ${SETTINGS}\`: nothing else asks.`);
        const { source } = flags;
        const onProgress = showBuild(cli);
        const turn = await cli.client.maintenance.run(service, { source, signal: cli.io.stopSignal(), onProgress });
        if (turn.outcome === 'busy') cli.exitCode = EXIT.error;
        cli.answer(turn, () => (turn.runs.length === 0 ? 'There was nothing to do.' : turn.runs.map(line).join('\n')));
      }),
    );

  maintain
    .command('pause')
    .argument('[service]', 'only this one; all of them without')
    .description('have it rest until it is resumed; what is at work ends its turn')
    .option('--reason <text>', 'shown by `freshvec maintain list`')
    .addHelpText('after', '\nExample:\n  $ freshvec maintain pause reindex --reason "sale week"')
    .action(
      act(async (cli, service: string | undefined, { reason }: { reason?: string }) => {
        const pause = await cli.client.maintenance.pause(service, { reason });
        cli.answer({ paused: true, ...pause }, () => `${service ?? 'All maintenance'} is paused: ${pause.reason}.`);
      }),
    );

  maintain
    .command('resume')
    .argument('[service]', 'only this one; all of them without')
    .description('let it run again')
    .addHelpText('after', '\nExample:\n  $ freshvec maintain resume')
    .action(
      act(async (cli, service: string | undefined) => {
        const was = await cli.client.maintenance.resume(service);
        const left = (await cli.client.maintenance.list({ limit: 1 })).services.find((one) => one.service === service);
        const still = left?.paused ? ` It still rests: all maintenance is paused (${left.paused.reason}).` : '';
        cli.answer(
          { service: service ?? '*', paused: still !== '' },
          () => `${service ?? 'Maintenance'} ${was ? 'runs again.' : 'was not paused.'}${still}`,
        );
      }),
    );
};

async function runSettings(cli: Cli, { source, yes }: RunFlags): Promise<void> {
  const { maintenance } = cli.client;
  const proposals = await maintenance.proposals(source);
  if (proposals.length === 0) {
    return cli.answer({ service: SETTINGS, outcome: 'nothing', set: [] }, () => 'Nothing is proposed.');
  }
  if (!yes) {
    if (!cli.interactive) throw new UsageError('Nobody is there to ask: say --yes, or see `freshvec maintain list`.');
    cli.say(proposals.map(proposed).join('\n'));
    if (!(await cli.confirm('Set this?'))) return;
  }
  const set = await maintenance.applyProposals(source);
  cli.answer({ service: SETTINGS, outcome: 'done', set }, () => set.map(({ sql }) => `${sql};`).join('\n'));
}

function describe({ services, runs, proposals }: MaintenanceReport): string {
  const rows = services.map((s) => [
    s.service,
    every(s.everyMs),
    s.window ?? 'any time',
    s.last ? `${s.last.startedAt.toISOString()} ${s.last.outcome}` : 'never',
    s.paused ? `paused by ${s.paused.byWhom} since ${s.paused.at.toISOString()}: ${excerpt(s.paused.reason, 80)}` : '',
  ]);
  return [
    table(['service', 'every', 'window', 'last turn', ''], rows),
    '',
    runs.length === 0 ? 'No runs on record.' : `Runs, the newest first:\n${runs.map(line).join('\n')}`,
    ...(proposals.length === 0 ? [] : ['', `Proposed; \`freshvec maintain run ${SETTINGS}\` sets it:`]),
    ...proposals.map(proposed),
  ].join('\n');
}

function line(run: MaintenanceRun): string {
  const size = run.bytesBefore !== null && run.bytesAfter !== null;
  const recall = run.recallAfter !== null;
  return [
    `  ${run.startedAt.toISOString()} ${run.service}${run.relation === null ? '' : ` ${run.relation}`}: ${excerpt(run.did, 300)}`,
    ...(size ? [`${bytesText(run.bytesBefore ?? 0)} → ${bytesText(run.bytesAfter ?? 0)}`] : []),
    ...(recall ? [`recall ${share(run.recallBefore)} → ${share(run.recallAfter)}`] : []),
    ...(run.outcome === 'done' ? [] : [run.outcome]),
    ...(run.error === null ? [] : [excerpt(run.error, 300)]),
    ...(run.times > 1 ? [`${run.times} times`] : []),
  ].join('; ');
}

function proposed({ sql, why }: AutovacuumProposal): string {
  return `  ${sql};\n    -- ${why}`;
}

function share(recall: number | null): string {
  return recall === null ? '?' : recall.toFixed(3);
}

function every(ms: number): string {
  if (ms < 60_000) return `${ms / 1000} s`;
  return ms < 3_600_000 ? `${ms / 60_000} min` : `${ms / 3_600_000} h`;
}
