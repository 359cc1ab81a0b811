import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { LoadDuty } from '../../src/stages/load-duty.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

test('rests after a batch for as long as the share asks', () => {
  const duty = new LoadDuty();
  duty.worked(1000);
  expect(duty.restMs()).toBe(0);
  duty.follow(0.25);
  duty.worked(1000);
  expect(duty.restMs()).toBeCloseTo(3000);
  vi.advanceTimersByTime(3000);
  expect(duty.isFree()).toBe(true);
});

test('some pages may have less of the time than the throttle gives', () => {
  const duty = new LoadDuty();
  duty.worked(1000, 0.25);
  expect(duty.restMs()).toBeCloseTo(3000);
  duty.follow(0.1);
  vi.advanceTimersByTime(3000);
  duty.worked(100, 0.25);
  expect(duty.restMs()).toBeCloseTo(900);
});

test('slots that end together rest together, not one after the other', () => {
  const duty = new LoadDuty();
  duty.follow(0.5);
  for (let slot = 0; slot < 3; slot++) duty.worked(1000);
  expect(duty.restMs()).toBeCloseTo(1000);
});

test('what is left of a rest follows the share; none is longer than ten seconds', () => {
  const duty = new LoadDuty();
  duty.follow(0.1);
  duty.worked(1000);
  expect(duty.restMs()).toBeCloseTo(9000);
  duty.follow(0.5);
  expect(duty.restMs()).toBeCloseTo(1000);
  duty.follow(1);
  expect(duty.isFree()).toBe(true);
  duty.follow(0.01);
  duty.worked(1000);
  expect(duty.restMs()).toBeCloseTo(10_000);
});

test('a share of nothing stops, whatever was worked', () => {
  const duty = new LoadDuty();
  duty.follow(0);
  duty.worked(1000);
  expect(duty.restMs()).toBe(Number.POSITIVE_INFINITY);
  duty.follow(1);
  expect(duty.isFree()).toBe(true);
});

test('held back, what is embedded here goes one batch at a time; at full speed, or elsewhere, as many as there are slots', () => {
  const duty = new LoadDuty();
  const ends = [duty.begin({ alone: true }), duty.begin({ alone: true })];
  expect(duty.isFree()).toBe(true);
  duty.follow(0.5);
  expect(duty.isFree()).toBe(false);
  vi.advanceTimersByTime(1000);
  for (const end of ends) end();
  expect(duty.restMs()).toBeCloseTo(1000);
  vi.advanceTimersByTime(1000);
  expect(duty.isFree()).toBe(true);

  const end = duty.begin({ alone: false });
  expect(duty.isFree()).toBe(true);
  vi.advanceTimersByTime(100);
  end();
  expect(duty.isFree()).toBe(false);
  vi.advanceTimersByTime(100);
  expect(duty.isFree()).toBe(true);
});
