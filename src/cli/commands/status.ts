import type { Pause } from '../../catalog/pause.js';
import type { SourceStatus, Status } from '../../status/status.js';
import type { Register } from '../register.js';
import { count, excerpt, table, untilText } from '../table.js';

export const statusCommand: Register = (program, act) => {
  program
    .command('status')
    .argument('[source]', 'only this one')
    .description('how fresh every source is')
    .option('--exact', 'count by hash, however large the table is (below 100,000 rows it is done anyway)')
    .addHelpText('after', '\nExample:\n  $ freshvec status --exact --json')
    .action(
      act(async (cli, source: string | undefined, { exact }: { exact?: boolean }) => {
        const status = await cli.client.status({ source, exact });
        cli.answer(status, () => describe(status));
      }),
    );
};

function describe({ sources, providers }: Status): string {
  if (sources.length === 0)
    return 'There are no sources. Add one with `freshvec source add TABLE --content … --model …`.';
  const head = ['source', 'rows', 'fresh', 'stale', 'leased', 'failed', 'coverage', 'oldest stale', 'model'];
  const rows = sources.map((s) => [
    `${s.source}${s.estimated ? ' (estimated)' : ''}${s.paused ? ' (paused)' : ''}`,
    ...[s.rows, s.fresh, s.stale, s.leased, s.failed],
    `${(Math.floor(s.coverage * 1000) / 10).toFixed(1)} %`,
    s.oldestStaleSeconds === null ? '?' : s.stale === 0 ? '-' : age(s.oldestStaleSeconds),
    s.live?.fingerprint ?? '-',
  ]);
  const problems = sources.flatMap((s) => (s.problem ? [`${s.source}: ${s.problem}`] : []));
  const pauses = sources.map(pausesOf);
  const outages = providers.map(
    ({ account, model, reason, resumesAt }) =>
      `${model} (account ${account}) rests: ${excerpt(reason, 200)} (asked again ${resumesAt ?? 'by one request, to see whether it works'})`,
  );
  const moves = sources.flatMap(({ source, migration }) =>
    migration
      ? [
          `${source} is being re-embedded to ${migration.to}: ${migration.state}${migration.paused ? ', paused' : ''} (\`freshvec reembed status ${source}\`).`,
        ]
      : [],
  );
  const long = sources.flatMap(({ source, longTexts }) => (longTexts ? [describeLong(source, longTexts)] : []));
  return [table(head, rows), ...moves, ...long, ...pauses.flat(), ...outages, ...problems].join('\n');
}

/** Of the source, or of spaces beside the live one. */
function pausesOf({ source, paused, spaces }: SourceStatus): string[] {
  const until = (pause: Pause) => `${excerpt(pause.reason, 200)} (${untilText(pause.until)})`;
  if (paused) return [`${source} is paused: ${until(paused)}`];
  return spaces.flatMap((space) =>
    space.paused ? [`${source}, space ${space.id} (${space.fingerprint}) is paused: ${until(space.paused)}`] : [],
  );
}

function describeLong(source: string, { truncated, chunked }: NonNullable<SourceStatus['longTexts']>): string {
  const parts = [
    ...(truncated > 0 ? [`${count(truncated)} embedded by their beginning`] : []),
    ...(chunked > 0 ? [`${count(chunked)} in pieces`] : []),
  ];
  return `${source} has texts that are too long for its model: ${parts.join(', ')} (\`freshvec source long-texts ${source}\`).`;
}

function age(seconds: number): string {
  if (seconds < 120) return `${seconds.toFixed(1)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
