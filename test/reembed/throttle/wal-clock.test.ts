import { expect, test } from 'vitest';
import { WalClock } from '../../../src/reembed/throttle/signals/wal-clock.js';

test('a position is as old as the WAL that came after it, within the marks on both sides', () => {
  const clock = new WalClock();
  expect(clock.secondsBehind(5, 100)).toEqual({ least: 0, most: Number.POSITIVE_INFINITY });
  clock.note(10, 1000);
  clock.note(11, 2000);
  clock.note(12, 2000);
  clock.note(13, 3000);
  // Before all that is known: at least since the first mark.
  expect(clock.secondsBehind(500, 20)).toEqual({ least: 10, most: Number.POSITIVE_INFINITY });
  expect(clock.secondsBehind(1500, 20)).toEqual({ least: 9, most: 10 });
  expect(clock.secondsBehind(2000, 20)).toEqual({ least: 7, most: 8 });
  expect(clock.secondsBehind(3000, 20)).toEqual({ least: 0, most: 7 });
  expect(clock.secondsBehind(3000, 13)).toEqual({ least: 0, most: 0 });
});

test('a rate is over the last seconds only', () => {
  const clock = new WalClock();
  expect(clock.rate(5)).toBeUndefined();
  clock.note(0, 0);
  expect(clock.rate(5)).toBeUndefined();
  clock.note(1, 100);
  expect(clock.rate(5)).toBe(100);
  for (let at = 2; at <= 20; at++) clock.note(at, 100 + (at - 1) * 10);
  expect(clock.rate(5)).toBe(10);
});
