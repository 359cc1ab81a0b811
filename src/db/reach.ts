import { setTimeout as sleep } from 'node:timers/promises';
import { classify, FreshvecError, sqlState } from './errors.js';
import { isPoolersRefusal, poolerError } from './pooler.js';

/** How long to go on trying to get a connection, by default. */
export const REACH_MS = 30_000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2_000;

export interface ReachOptions {
  /** Names the server in the error, without credentials. */
  readonly target: string;
  readonly budgetMs: number;
  /** True while failing means only that our own pool is busy: then waiting is not limited. */
  busy?(): boolean;
}

/** Takes a connection; refusals and full servers are tried again, doubling the pause, until the budget is used up. */
export async function reach<T>(connect: () => Promise<T>, options: ReachOptions): Promise<T> {
  let deadline = Date.now() + options.budgetMs;
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      return await connect();
    } catch (error) {
      if (isPoolersRefusal(error)) throw poolerError(options.target, { cause: error });
      const failure = classify(error);
      if (failure !== 'connection' && failure !== 'too_many') throw error;
      if (options.busy?.()) deadline = Date.now() + options.budgetMs;
      if (Date.now() + pauseMs > deadline) throw unreachable(error, options);
      await sleep(pauseMs * (0.5 + Math.random() / 2));
    }
  }
}

function unreachable(error: unknown, { target, budgetMs }: ReachOptions): FreshvecError {
  const reason = error instanceof Error ? error.message || error.name : String(error);
  const advice =
    sqlState(error) === '53300'
      ? 'It has no connection left: raise max_connections, lower the pool size, or put a pooler in front.'
      : 'Check that the server runs and that DATABASE_URL names its host, port and database.';
  return new FreshvecError(
    'database_unreachable',
    `Cannot connect to PostgreSQL at ${target} within ${Math.round(budgetMs / 1000)} s: ${reason}. ${advice}`,
    { cause: error },
  );
}

/** `host:port/database` of a connection URL, for messages. */
export function describeTarget(url: string): string {
  try {
    const { host, pathname, searchParams } = new URL(url);
    return `${host || searchParams.get('host') || 'localhost'}${pathname}`;
  } catch {
    return 'the configured address';
  }
}
