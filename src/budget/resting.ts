import { EmbedError } from '../embed/port.js';
import type { SpentUp } from './account.js';

/** How soon it is tried again where money is only reserved, by a worker that may have died. */
const HELD_AGAIN_MS = 60_000;

const HELD: readonly string[] = ['cap_held', 'space_cap_held'] satisfies SpentUp[];

/** Money is there, but reserved for requests that may cost less. */
export function isHeld(why: string): boolean {
  return HELD.includes(why);
}

/** What a request that is not let through is told. */
export function resting({ why, waitMs }: { why: string; waitMs: number }, capPerDay: number | undefined): EmbedError {
  const retryAfterMs = isHeld(why) ? HELD_AGAIN_MS : Math.ceil(waitMs);
  if (why.startsWith('space_cap')) {
    return new EmbedError(
      'spend_cap',
      'the spend cap of this space, a migration, is reached: raise it with `freshvec reembed resume SOURCE --spend-cap USD`',
      isHeld(why) ? { retryAfterMs } : {},
    );
  }
  if (why !== 'cap' && !isHeld(why)) return new EmbedError('unavailable', why, { retryAfterMs });
  return new EmbedError(
    'spend_cap',
    `the spend cap of $${capPerDay} a day is reached: raise spend.perDay and run \`freshvec resume SOURCE\`, or wait for the next day (UTC)`,
    { retryAfterMs },
  );
}
