import { Presets, SingleBar } from 'cli-progress';
import type { WorkProgress } from '../client/work-once.js';
import type { Cli } from './cli.js';
import { count } from './table.js';

export interface Progress {
  readonly update: (progress: WorkProgress) => void;
  end(): void;
}

const LINE_EVERY_MS = 5_000;

/** A bar on a terminal of our own, else a plain line now and then; both on stderr. */
export function showProgress(cli: Cli): Progress {
  return cli.interactive && !cli.io.connection ? bar(cli) : lines(cli);
}

function bar(cli: Cli): Progress {
  const drawn = new SingleBar(
    {
      stream: cli.io.stderr,
      format: '{bar} {percentage} % | {value}/{total} rows | {eta_formatted} left',
      hideCursor: true,
      clearOnComplete: true,
    },
    Presets.shades_classic,
  );
  let started = false;
  return {
    update({ done, total }) {
      if (total === 0) return;
      if (!started) drawn.start(total, 0);
      started = true;
      drawn.setTotal(total);
      drawn.update(done);
    },
    end: () => drawn.stop(),
  };
}

function lines(cli: Cli): Progress {
  let saidAt = performance.now();
  return {
    update({ done, total }) {
      if (total === 0 || performance.now() - saidAt < LINE_EVERY_MS) return;
      saidAt = performance.now();
      cli.say(`${count(done)} of about ${count(total)} rows done`);
    },
    end() {},
  };
}
