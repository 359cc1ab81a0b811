import { Presets, SingleBar } from 'cli-progress';
import type { WorkProgress } from '../client/work-once.js';
import type { Cli } from './cli.js';
import { count } from './table.js';

export interface Progress {
  /** `pace`: how fast it goes and how long it takes still, in words. */
  readonly update: (progress: Pick<WorkProgress, 'done' | 'total'>, pace?: string) => void;
  end(): void;
}

const LINE_EVERY_MS = 5_000;

/**
 * A bar on a terminal of our own, else a plain line now and then; both on stderr. `paced`: each update says the pace,
 * where it is known better than to a bar that has just begun.
 */
export function showProgress(cli: Cli, { paced = false }: { readonly paced?: boolean } = {}): Progress {
  return cli.interactive && !cli.io.connection
    ? bar(cli, paced ? '{pace}' : '{eta_formatted} left')
    : lines(cli, paced);
}

function bar(cli: Cli, tail: string): Progress {
  const drawn = new SingleBar(
    {
      stream: cli.io.stderr,
      format: `{bar} {percentage} % | {value}/{total} rows | ${tail}`,
      hideCursor: true,
      clearOnComplete: true,
    },
    Presets.shades_classic,
  );
  let started = false;
  return {
    update({ done, total }, pace) {
      if (total === 0) return;
      if (!started) drawn.start(total, 0, { pace });
      started = true;
      drawn.setTotal(total);
      drawn.update(done, { pace });
    },
    end: () => drawn.stop(),
  };
}

function lines(cli: Cli, atOnce: boolean): Progress {
  let saidAt = atOnce ? Number.NEGATIVE_INFINITY : performance.now();
  return {
    update({ done, total }, pace) {
      if (total === 0 || performance.now() - saidAt < LINE_EVERY_MS) return;
      saidAt = performance.now();
      cli.say(`${count(done)} of about ${count(total)} rows done${pace === undefined ? '' : `, ${pace}`}`);
    },
    end() {},
  };
}
