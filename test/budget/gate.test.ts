import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Concurrency } from '../../src/budget/concurrency.js';
import { type BudgetGate, createGate, type GateOptions } from '../../src/budget/gate.js';
import { EmbedError, type EmbedResult } from '../../src/embed/port.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
let number = 0;
const gates: BudgetGate[] = [];
beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(async () => {
  for (const gate of gates) await gate.close();
  await fixture.close();
});

function gateWith(options: Partial<GateOptions> = {}): BudgetGate {
  const gate = createGate({
    db: fixture.db,
    account: `gate ${++number}`,
    limits: {},
    price: 0,
    capPerDay: undefined,
    onError: (error) => {
      throw error;
    },
    ...options,
  });
  gates.push(gate);
  return gate;
}

const answer = async (tokens = 1): Promise<EmbedResult> => ({ vectors: [], tokens });

test('a person goes before an import, an import before a first load', async () => {
  const gate = gateWith({ limits: { requestsPerMinute: 61.5 * 20 } });
  const order: string[] = [];
  const send = (priority: 'interactive' | 'bulk' | 'load') =>
    gate.run({ tokens: 1, priority }, async () => {
      order.push(priority);
      return answer();
    });
  const first = Array.from({ length: 12 }, () => send('load'));
  await sleep(10);
  await Promise.all([...first, send('bulk'), send('interactive')]);
  expect(order.indexOf('interactive')).toBeLessThan(order.indexOf('bulk'));
  expect(order.indexOf('bulk')).toBeLessThan(order.lastIndexOf('load'));
});

test('a refusal holds everybody up, and who would wait long is told so', async () => {
  const [one, two] = [gateWith({ account: 'shared' }), gateWith({ account: 'shared' })];
  const refusal = new EmbedError('rate_limited', 'HTTP 429', { retryAfterMs: 60_000 });
  await expect(one.run({ tokens: 1, priority: 'bulk' }, () => Promise.reject(refusal))).rejects.toBe(refusal);
  let sent = false;
  const told = two.run({ tokens: 1, priority: 'interactive' }, async () => {
    sent = true;
    return answer();
  });
  await expect(told).rejects.toMatchObject({ failure: 'unavailable', details: { retryAfterMs: expect.any(Number) } });
  expect(sent).toBe(false);
});

test('a short pause is waited for', async () => {
  const gate = gateWith();
  const refusal = new EmbedError('rate_limited', 'HTTP 429', { retryAfterMs: 100 });
  await expect(gate.run({ tokens: 1, priority: 'bulk' }, () => Promise.reject(refusal))).rejects.toBe(refusal);
  await expect(gate.run({ tokens: 1, priority: 'bulk' }, () => answer(7))).resolves.toMatchObject({ tokens: 7 });
});

test('who leaves the queue is not sent', async () => {
  const gate = gateWith({ limits: { requestsPerMinute: 1 } });
  await gate.run({ tokens: 1, priority: 'bulk' }, () => answer());
  const controller = new AbortController();
  let sent = false;
  const waiting = gate.run({ tokens: 1, priority: 'bulk', signal: controller.signal }, async () => {
    sent = true;
    return answer();
  });
  await sleep(30);
  controller.abort(new Error('stopped'));
  await expect(waiting).rejects.toThrow('stopped');
  expect(sent).toBe(false);
});

test('the cap of the day stops everything with what to do about it', async () => {
  await fixture.db.query('DELETE FROM freshvec.spend_day');
  const gate = gateWith({ price: 1_000_000, capPerDay: 5 });
  await gate.run({ tokens: 4, priority: 'bulk' }, () => answer(4));
  await expect(gate.run({ tokens: 4, priority: 'bulk' }, () => answer(4))).rejects.toMatchObject({
    failure: 'spend_cap',
    message: expect.stringMatching(/\$5 a day.*freshvec resume/),
  });
  // A request that failed was reserved for nothing.
  const broken = new EmbedError('input_rejected', 'no');
  await expect(gate.run({ tokens: 1, priority: 'bulk' }, () => Promise.reject(broken))).rejects.toBe(broken);
  await gate.close();
  expect(await fixture.db.query('SELECT micros FROM freshvec.spend_day')).toEqual([{ micros: 4_000_000 }]);
});

test('no more requests at once than the provider takes well', async () => {
  const gate = gateWith();
  let [now, most] = [0, 0];
  await Promise.all(
    Array.from({ length: 100 }, () =>
      gate.run({ tokens: 1, priority: 'bulk' }, async () => {
        now += 1;
        most = Math.max(most, now);
        await sleep(5 + now * now); // The more at once, the slower each.
        now -= 1;
        return answer();
      }),
    ),
  );
  expect(most).toBeGreaterThanOrEqual(4);
  expect(most).toBeLessThan(30);
});

test('the level rises while latency holds, falls while it does not, and halves once for a volley of refusals', () => {
  const level = new Concurrency(64);
  for (let i = 0; i < 200; i++) level.answered(10, true, 100);
  const high = level.level;
  expect(high).toBeGreaterThan(15);
  for (let i = 0; i < 50; i++) level.answered(10, false, 100);
  expect(level.level).toBe(high);
  for (let i = 0; i < 50; i++) level.answered(200, true, 10_000); // A large request takes longer by nature.
  expect(level.level).toBeGreaterThanOrEqual(high);
  for (let i = 0; i < 50; i++) level.answered(10, false, 100);
  const before = level.level;
  for (let i = 0; i < 10; i++) level.refused();
  expect(Math.abs(level.level - before / 2)).toBeLessThanOrEqual(1);
  for (let i = 0; i < 200; i++) level.answered(30, true, 100);
  expect(level.level).toBeLessThan(high / 2);
  for (let i = 0; i < 10_000; i++) level.answered(1000, true, 100);
  expect(level.level).toBeGreaterThanOrEqual(1);
});
