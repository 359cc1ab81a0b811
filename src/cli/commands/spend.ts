import type { SpendReport } from '../../budget/spend-report.js';
import { whole } from '../flags.js';
import type { Register } from '../register.js';
import { table } from '../table.js';

export const spendCommand: Register = (program, act) => {
  program
    .command('spend')
    .description('what embedding has cost, by day (UTC), source, model and purpose')
    .option('--days <n>', 'so many days up to today', whole(1), 30)
    .addHelpText('after', '\nExample:\n  $ freshvec spend --days 7')
    .action(
      act(async (cli, { days }: { days: number }) => {
        const report = await cli.client.spend({ days });
        cli.answer(report, () => describe(report, days));
      }),
    );
};

function describe({ spend, total, cap }: SpendReport, days: number): string {
  const lines: string[] = [];
  if (spend.length === 0) lines.push(`Nothing was charged in the last ${days === 1 ? 'day' : `${days} days`}.`);
  else {
    const rows = spend.map((s) => [
      s.day,
      s.source ?? '-',
      s.model,
      s.purpose,
      s.texts,
      s.tokens,
      s.usd === null ? 'unknown' : usd(s.usd),
    ]);
    const unknown = spend.some((s) => s.usd === null);
    const sum = total.usd === null ? 'unknown' : `${usd(total.usd)}${unknown ? ' + unknown' : ''}`;
    rows.push(['total', '', '', '', total.texts, total.tokens, sum]);
    lines.push(table(['day', 'source', 'model', 'for', 'texts', 'tokens', 'USD'], rows));
    if (unknown) lines.push('unknown: the price of that model was not set; see `prices` in the configuration.');
  }
  if (cap) lines.push(`Today: $${usd(cap.today)} of the $${usd(cap.perDay)} that a day may cost.`);
  return lines.join('\n');
}

/** To the millionth; it is counted to the billionth. */
function usd(value: number): string {
  return value.toLocaleString('en-US', { minimumFractionDigits: 2, maximumFractionDigits: 6 });
}
