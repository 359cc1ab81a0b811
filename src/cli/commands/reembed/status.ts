import { setTimeout as sleep } from 'node:timers/promises';
import type { MigrationStatus } from '../../../reembed/status.js';
import { throttleReasons } from '../../../reembed/throttle/describe.js';
import type { Cli } from '../../cli.js';
import { showProgress } from '../../progress.js';
import type { Register } from '../../register.js';
import { describeStatus, oneLine, paceOf, slowedBy } from './text.js';

const WATCH_MS = 500;

export const statusCommand: Register = (reembed, act) => {
  reembed
    .command('status')
    .argument('<source>')
    .description('how far a move is, what slows it down, and what holds it back')
    .option('--watch', 'go on until it waits for a person or has ended')
    .addHelpText('after', '\nExample:\n  $ freshvec reembed status notes --watch')
    .action(
      act(async (cli, source: string, { watch }: { watch?: boolean }) => {
        const migration = watch ? await follow(cli, source) : await cli.client.reembed.status(source);
        cli.answer({ migration }, () => describeStatus(migration));
      }),
    );
};

/** A bar while rows are embedded, a line at every change; ends where a person is asked. */
async function follow(cli: Cli, source: string): Promise<MigrationStatus> {
  const stop = cli.io.stopSignal();
  const progress = showProgress(cli, { paced: true });
  let told = '';
  let slowed = '';
  try {
    for (;;) {
      const migration = await cli.client.reembed.status(source);
      const line = oneLine(migration);
      if (line !== told) cli.say(line);
      told = line;
      if (migration.state === 'backfilling') {
        // The figures change all the time: told in full when another signal slows it, and by name beside the bar.
        const signals = slowedBy(migration).join(', ');
        if (signals !== slowed) for (const reason of throttleReasons(migration.throttle)) cli.say(`slowed: ${reason}`);
        slowed = signals;
        progress.update({ done: migration.done, total: migration.rows }, paceOf(migration));
      }
      if (stop.aborted || waitsForPerson(migration)) return migration;
      await sleep(WATCH_MS, undefined, { signal: stop }).catch(() => {});
    }
  } finally {
    progress.end();
  }
}

function waitsForPerson({ state, paused, auto, resting }: MigrationStatus): boolean {
  if (resting !== null && resting.until === null) return true;
  if (state === 'ready' && auto) return paused;
  return paused || ['ready', 'soaking', 'rolled_back', 'done', 'aborted', 'parked'].includes(state);
}
