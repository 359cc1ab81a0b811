import type { BuildProgress } from '../store/build-progress.js';
import type { Cli } from './cli.js';

const LINE_EVERY_MS = 5_000;

/** Tells on stderr how far an index build is: each phase once, and now and then within it. */
export function showBuild(cli: Cli): (progress: BuildProgress) => void {
  let [said, saidAt] = ['', 0];
  return ({ index, phase, done, total, waitsForPid }) => {
    const waits = waitsForPid === undefined ? '' : `, held up by pid ${waitsForPid}`;
    const now = `${index}: ${phase}${waits}`;
    if (now === said && performance.now() - saidAt < LINE_EVERY_MS) return;
    [said, saidAt] = [now, performance.now()];
    cli.say(total > 0 ? `${now} (${Math.floor((100 * done) / total)} %)` : now);
  };
}
