/**
 * Additive increase, multiplicative decrease (Chiu and Jain, 1989): many that share one database come to fair shares, and
 * each settles just below what the database stands. What is added is small against what is taken, since a database that
 * was pressed needs longer to recover than a backfill to lose a second. Until the first pressure nobody knows where the
 * limit is, and the share doubles, as TCP's slow start does (RFC 5681, section 3.1).
 */

/**
 * What a signal asks for. `hold`: no faster, it is near its bound; `wait`: no faster until more is known. `slow`: half as
 * fast, and no slower than this floor, a part of the time; `atMost`: never more than this part, whatever the others say,
 * and where several say so, a part of the part.
 */
export type Effect = 'rise' | 'hold' | 'wait' | { readonly slow: number } | { readonly atMost: number } | 'stop';

/** Whether it tells of pressure, or that it is near: a cap holds whatever the database feels. */
export function isFelt(effect: Effect): boolean {
  return typeof effect === 'object' ? 'slow' in effect : effect === 'hold' || effect === 'stop';
}

/** Added to the share by a calm tick, about once a second: from nothing to everything in 20 s. */
export const INCREASE = 0.05;
const DECREASE = 0.5;
/** A backfill that is only slowed never quite stops, so that it is seen to go on, and its own effect can be told. */
export const FLOOR = 0.02;

/**
 * The share of the time, 0 to 1, for the next second. The most careful effect holds; of several that slow down, the
 * lowest floor. Below `doublesBelow` a calm tick doubles the share, if that is more than `INCREASE`.
 */
export function nextShare(share: number, effects: readonly Effect[], doublesBelow = 0): number {
  const caps = effects.flatMap((effect) => (typeof effect === 'object' && 'atMost' in effect ? [effect.atMost] : []));
  return Math.min(
    uncapped(share, effects, doublesBelow),
    caps.reduce((product, cap) => product * cap, 1),
  );
}

function uncapped(share: number, effects: readonly Effect[], doublesBelow: number): number {
  const now = Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0;
  if (effects.includes('stop')) return 0;
  const floors = effects.flatMap((effect) => (typeof effect === 'object' && 'slow' in effect ? [effect.slow] : []));
  if (floors.length > 0) {
    const floor = Math.min(...floors);
    return now > floor ? Math.max(floor, now * DECREASE) : Math.min(floor, now + INCREASE);
  }
  if (effects.includes('hold') || effects.includes('wait')) return Math.max(now, FLOOR);
  return Math.min(1, Math.max(now + INCREASE, Math.min(now * 2, doublesBelow)));
}
