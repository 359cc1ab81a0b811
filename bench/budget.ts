import { type ConfiguredLimits, takeBudget } from '../src/budget/account.js';
import type { Database } from '../src/db/database.js';
import type { Figure } from './support/figures.js';
import type { Bench, Lab } from './support/lab.js';
import { prepare } from './support/source.js';

const TAKERS = 50;
const SECONDS = 10;
const TAKE = { tokens: 100, burstSeconds: 1, urgent: false, nanos: 0, capNanos: undefined, spaceId: undefined };

/** What one account's row in Postgres bears when 50 takers on 50 connections ask at once, and whether it keeps its word. */
export const budget: Bench = async (lab: Lab): Promise<Figure[]> => {
  const db = lab.database(await lab.postgres({ max_connections: '120' }), TAKERS);
  await prepare(db);
  lab.setup.push(`${TAKERS} takers, each on a connection of its own, one account, ${SECONDS} s each`);

  const wide = await takeFor(db, 'wide', { requestsPerMinute: 1e9, tokensPerMinute: 1e12 });
  // A limit of 30,000 a minute, and far more asked for.
  const perMinute = 30_000;
  const tight = await takeFor(db, 'tight', { requestsPerMinute: perMinute });
  // In a window of so many seconds: the part of the limit, and the burst of one second.
  const allowed = (perMinute / 60) * (tight.seconds + TAKE.burstSeconds);
  return [
    { what: 'takes granted, nobody held back', value: wide.granted / wide.seconds, unit: '/s', atLeast: 2000 },
    { what: 'takes asked for at a limit', value: (tight.granted + tight.refused) / tight.seconds, unit: '/s' },
    { what: 'granted at a limit: × what the limit allows', value: tight.granted / allowed, unit: '×', atMost: 1 },
  ];
};

async function takeFor(
  db: Database,
  account: string,
  limits: ConfiguredLimits,
): Promise<{ granted: number; refused: number; seconds: number }> {
  const began = performance.now();
  const until = began + SECONDS * 1000;
  let [granted, refused] = [0, 0];
  const taker = async () => {
    while (performance.now() < until) {
      if ((await takeBudget(db, account, { ...TAKE, limits })).granted) granted += 1;
      else refused += 1;
    }
  };
  await Promise.all(Array.from({ length: TAKERS }, taker));
  return { granted, refused, seconds: (performance.now() - began) / 1000 };
}
