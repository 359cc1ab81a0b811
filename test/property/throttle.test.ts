import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Effect, FLOOR, INCREASE, nextShare } from '../../src/reembed/throttle/aimd.js';

const floors = fc.constantFrom(FLOOR, 0.1);
const effect: fc.Arbitrary<Effect> = fc.oneof(
  fc.constantFrom<Effect>('rise', 'hold', 'wait', 'stop'),
  floors.map((slow) => ({ slow })),
  fc.constantFrom(0.3, 0.5).map((atMost) => ({ atMost })),
);
const effects = fc.array(effect, { maxLength: 6 });
const share = fc.oneof(fc.double({ min: 0, max: 1, noNaN: true }), fc.constantFrom(0, 1, FLOOR, 0.1));

describe('nextShare', () => {
  it('stays within 0 and 1, whatever it is given', () => {
    fc.assert(
      fc.property(fc.double(), fc.array(effects, { maxLength: 50 }), (start, ticks) => {
        ticks.reduce((now, each) => {
          const next = nextShare(now, each);
          expect(next).toBeGreaterThanOrEqual(0);
          expect(next).toBeLessThanOrEqual(1);
          return next;
        }, start);
      }),
    );
  });

  it('is 0 exactly while something says stop', () => {
    fc.assert(
      fc.property(share, effects, (now, each) => {
        expect(nextShare(now, each) === 0).toBe(each.includes('stop'));
      }),
    );
  });

  it('halves under pressure down to the lowest floor, and is never above the floor by more than half of before', () => {
    fc.assert(
      fc.property(share, fc.array(floors, { minLength: 1, maxLength: 4 }), (now, pressed) => {
        const floor = Math.min(...pressed);
        const next = nextShare(now, [...pressed.map((slow) => ({ slow })), 'rise', 'hold']);
        expect(next).toBe(now > floor ? Math.max(floor, now / 2) : Math.min(floor, now + INCREASE));
        expect(nextShare(next, [{ slow: floor }])).toBeLessThanOrEqual(Math.max(floor, next));
      }),
    );
  });

  it('one more signal never makes it faster, as long as nothing has to be recovered from', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.1, max: 1, noNaN: true }), effects, effect, (now, each, more) => {
        const without = nextShare(now, each);
        const withMore = nextShare(now, [...each, more]);
        if (more !== 'rise') expect(withMore).toBeLessThanOrEqual(without);
        else expect(withMore).toBe(without);
      }),
    );
  });

  it('recovers from any share to all of the time within 20 calm ticks, by one step each', () => {
    fc.assert(
      fc.property(share, (start) => {
        let now = start;
        for (let tick = 0; tick < 20; tick++) {
          const next = nextShare(now, ['rise']);
          expect(next - now).toBeLessThanOrEqual(INCREASE + 1e-9);
          if (now < 1) expect(next).toBeGreaterThan(now);
          now = next;
        }
        expect(now).toBeGreaterThan(1 - 1e-9);
      }),
    );
  });

  it('is wide open within 4 calm ticks from a tenth, as long as nothing was felt of it, and never above by doubling', () => {
    let now = 0.1;
    for (let tick = 0; tick < 4; tick++) now = nextShare(now, ['rise'], 1);
    expect(now).toBe(1);
    fc.assert(
      fc.property(share, fc.double({ min: 0, max: 1, noNaN: true }), effects, (before, below, each) => {
        const slow = nextShare(before, each);
        const next = nextShare(before, each, below);
        expect(next).toBeGreaterThanOrEqual(slow);
        if (next > slow) expect(next).toBeLessThanOrEqual(Math.min(before * 2, below));
      }),
    );
  });

  it('settles: where the pressure is the share’s own doing, it swings between the half and one step over the limit', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.1, max: 0.9, noNaN: true }), share, (limit, start) => {
        let now = start;
        const seen: number[] = [];
        for (let tick = 0; tick < 200; tick++) {
          now = nextShare(now, [now > limit ? { slow: FLOOR } : now > limit * 0.8 ? 'hold' : 'rise']);
          if (tick > 60) seen.push(now);
        }
        expect(Math.max(...seen)).toBeLessThanOrEqual(limit + INCREASE);
        expect(Math.min(...seen)).toBeGreaterThanOrEqual(limit / 2 - 1e-9);
        // With room for a step between 80 % of the limit and the limit it comes to rest.
        if (limit * 0.2 > INCREASE) expect(new Set(seen).size).toBe(1);
      }),
    );
  });

  it('is never above a cap, nor above a part of the part where there are several, and below goes by the others', () => {
    fc.assert(
      fc.property(share, effects, fc.double({ min: FLOOR, max: 1, noNaN: true }), (now, each, atMost) => {
        const all = [...each, { atMost }];
        const most = all.reduce(
          (part, one) => (typeof one === 'object' && 'atMost' in one ? part * one.atMost : part),
          1,
        );
        const others = all.filter((one) => typeof one === 'string' || !('atMost' in one));
        expect(nextShare(now, all)).toBe(Math.min(most, nextShare(now, others)));
      }),
    );
  });

  it('holds, but not at nothing: what stopped it is over', () => {
    fc.assert(
      fc.property(share, (now) => {
        expect(nextShare(now, ['hold', 'rise'])).toBe(Math.max(now, FLOOR));
      }),
    );
  });
});
