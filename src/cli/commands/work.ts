import type { WorkReport } from '../../client/work-once.js';
import type { Cli } from '../cli.js';
import { EXIT } from '../io.js';
import { showProgress } from '../progress.js';
import type { Register } from '../register.js';
import { stay } from '../stay.js';
import { count } from '../table.js';

export const workCommand: Register = (program, act) => {
  program
    .command('work')
    .description('embed what is stale, until SIGTERM or Ctrl-C')
    .option('--once', 'only until nothing is left that can be done; exits with 3 if some rows failed or still wait')
    .addHelpText('after', '\nExample:\n  $ freshvec work --once')
    .action(act((cli, { once = false }: { once?: boolean }) => (once ? workOnce(cli) : stay(cli, ['embed']))));
};

async function workOnce(cli: Cli): Promise<void> {
  cli.reachMs = undefined;
  const progress = showProgress(cli);
  const began = performance.now();
  let report: WorkReport;
  try {
    report = await cli.client.workOnce({ signal: cli.io.stopSignal(), onProgress: progress.update });
  } finally {
    progress.end();
  }
  const seconds = Math.round(performance.now() - began) / 1000;
  if (report.failed > 0 || (report.delayed > 0 && report.remaining > 0)) cli.exitCode = EXIT.rowsFailed;
  cli.answer({ ...report, seconds }, () => describe(report, seconds));
}

function describe({ written, unpaid, failed, tokens, remaining }: WorkReport, seconds: number): string {
  const lines = [
    `${count(written)} embedded in ${seconds.toFixed(1)} s, ${count(tokens)} tokens, ${count(unpaid)} needed no payment.`,
  ];
  if (failed > 0) lines.push(`${count(failed)} failed: see \`freshvec failures list\`.`);
  if (remaining > 0) lines.push(`About ${count(remaining)} are still waiting: see \`freshvec status\`.`);
  return lines.join('\n');
}
