import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  type ConfiguredLimits,
  type Moment,
  refuseBudget,
  settleBudget,
  type Take,
  takeBudget,
} from '../../src/budget/account.js';
import { elsewhereOf, NOTHING } from '../../src/budget/request.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';

/** Of the test's process. */
let limits: ConfiguredLimits = {};

const take = (tokens: number, over: Partial<Take> = {}): Take => ({
  limits,
  tokens,
  burstSeconds: 1,
  urgent: false,
  nanos: 0,
  capNanos: undefined,
  spaceId: undefined,
  ...over,
});

describe.each(['postgres', 'pglite'] as const)('budgets on %s', (engine) => {
  let fixture: Fixture;
  let account = '';
  let number = 0;
  beforeAll(async () => {
    fixture = await openFixture(engine);
  });
  afterAll(() => fixture.close());
  beforeEach(() => {
    account = `account ${++number}`;
    limits = {};
  });

  const days = () =>
    fixture.db.query(
      'SELECT nanos, (SELECT sum(nanos)::int8 FROM freshvec.spend_reserved) AS reserved FROM freshvec.spend_day',
    );
  const period = async () => {
    const [row] = await fixture.db.query<{ period: number }>(
      'SELECT max(period) AS period FROM freshvec.spend_reserved',
    );
    return row?.period ?? null;
  };
  const charged = { source: 'a', space: null, fingerprint: 'm@1#0', purpose: 'rows', texts: 1 } as const;
  const state = async () => {
    const [row] = await fixture.db.query(
      `SELECT share, failures, resumes_at > clock_timestamp() AS rests, requests_limit, tokens_limit, tokens_at
       FROM freshvec.account WHERE account = $1`,
      [account],
    );
    return row;
  };

  test('without a known limit everything passes', async () => {
    for (let i = 0; i < 20; i++)
      expect(await takeBudget(fixture.db, account, take(1e6))).toMatchObject({ granted: true });
  });

  test('no more than the limit in a minute, bursts included', async () => {
    limits = { tokensPerMinute: 6150 };
    // A hundred tokens a second, and at most ten seconds ahead.
    const next = () => takeBudget(fixture.db, account, take(100, { burstSeconds: 10 }));
    let granted = 0;
    let refused = await next();
    for (; refused.granted && granted < 30; refused = await next()) granted += 1;
    expect(granted).toBeGreaterThanOrEqual(10);
    if (refused.granted) throw new Error('granted');
    expect(refused.why).toBe('budget');
    expect(refused.waitMs).toBeGreaterThan(0);
    expect(refused.waitMs).toBeLessThanOrEqual(1000);
  });

  test('what can wait leaves room for what cannot', async () => {
    limits = { requestsPerMinute: 6.15 };
    while ((await takeBudget(fixture.db, account, take(1, { burstSeconds: 25 }))).granted);
    expect(await takeBudget(fixture.db, account, take(1, { burstSeconds: 25 }))).toMatchObject({ granted: false });
    expect(await takeBudget(fixture.db, account, take(1, { burstSeconds: 100 }))).toMatchObject({ granted: true });
  });

  test('a request larger than the burst passes when nothing is owed, and is waited for in full', async () => {
    limits = { tokensPerMinute: 615 };
    expect(await takeBudget(fixture.db, account, take(100))).toMatchObject({ granted: true });
    const next = await takeBudget(fixture.db, account, take(100));
    if (next.granted) throw new Error('granted');
    expect(next.waitMs).toBeGreaterThan(9000);
    expect(next.waitMs).toBeLessThanOrEqual(10_000);
  });

  test('large requests: no more than fit into the limit in any minute', async () => {
    // 7,154 tokens of 40,000: five fit.
    limits = { tokensPerMinute: 40_000 };
    await takeBudget(fixture.db, account, take(7154));
    const next = await takeBudget(fixture.db, account, take(7154));
    // The last of five passes, the sixth when the first is 60 s ago.
    expect(next.granted ? 0 : 5 * (next.waitMs + 450)).toBeGreaterThan(60_450);
  });

  test('a long edit goes ahead of first loads that come as often as they may', async () => {
    limits = { tokensPerMinute: 61_500 };
    const load = () => takeBudget(fixture.db, account, take(500, { burstSeconds: 0.55 }));
    const edit = () => takeBudget(fixture.db, account, take(4000));
    for (;;) {
      const next = await load();
      if (next.granted) continue;
      const wanted = await edit();
      if (wanted.granted) break;
      expect(wanted.waitMs).toBeLessThan(next.waitMs - 100);
      break;
    }
  });

  test('what was not charged is given back, what was charged on top is taken', async () => {
    limits = { tokensPerMinute: 615 };
    await takeBudget(fixture.db, account, take(100));
    await settleBudget(fixture.db, account, limits, { tokens: -100, spent: [], rateLimit: undefined, answered: true });
    expect(await takeBudget(fixture.db, account, take(50))).toMatchObject({ granted: true });
    await settleBudget(fixture.db, account, limits, { tokens: 50, spent: [], rateLimit: undefined, answered: true });
    const next = await takeBudget(fixture.db, account, take(1));
    expect(next).toMatchObject({ granted: false });
    expect(next.granted ? 0 : next.waitMs).toBeGreaterThan(8000);
  });

  test("the lower of the provider's limit and the configured one holds", async () => {
    limits = { tokensPerMinute: 61_500 };
    await takeBudget(fixture.db, account, take(1));
    const rateLimit = { limitTokens: 615, limitRequests: 1000 };
    await settleBudget(fixture.db, account, limits, { tokens: 0, spent: [], rateLimit, answered: true });
    expect(await state()).toMatchObject({ requests_limit: 1000, tokens_limit: 615 });
    expect((await takeBudget(fixture.db, account, take(100))).granted).toBe(true);
    expect((await takeBudget(fixture.db, account, take(100))).granted).toBe(false);
  });

  test('what was asked for before the limit was known counts once it is', async () => {
    for (let i = 0; i < 3; i++) await takeBudget(fixture.db, account, take(100));
    const rateLimit = { limitTokens: 615, limitRequests: 1e6 };
    await settleBudget(fixture.db, account, limits, { tokens: 0, spent: [], rateLimit, answered: true });
    const next = await takeBudget(fixture.db, account, take(1));
    expect(next.granted ? 0 : next.waitMs).toBeGreaterThan(25_000);
    expect(next.granted ? 0 : next.waitMs).toBeLessThan(31_000);
  });

  test('what the provider says is left beside less than was thought is what others took, and is taken once', async () => {
    // A token a ms.
    limits = { tokensPerMinute: 61_500 };
    const grant = async () => {
      const taken = await takeBudget(fixture.db, account, take(100));
      if (!taken.granted) throw new Error(taken.why);
      return taken.moment;
    };
    const tokensAt = async () => Number((await state())?.tokens_at);
    const settle = (moment: Moment, remainingTokens: number, tokens = 0) => {
      const elsewhere = elsewhereOf({ ...NOTHING, moment }, { remainingTokens });
      return settleBudget(fixture.db, account, limits, { tokens, spent: [], elsewhere, answered: true });
    };
    const moments = [await grant(), await grant(), await grant()] as const;
    const spare = moments.map(({ tokensSpare }) => tokensSpare ?? 0);
    expect(spare[0]).toBeCloseTo(900, 3);
    expect(spare[1]).toBeGreaterThanOrEqual(800);

    const before = await tokensAt();
    await settle(moments[0], 1000);
    expect(await tokensAt()).toBe(before);
    // What was granted since is owed as before, and so is what was charged on top.
    await settle(moments[1], (spare[1] ?? 0) - 300, 50);
    expect(await tokensAt()).toBeCloseTo(before + 0.35, 3);
    // Was under way at that time: it tells of the same loss.
    await settle(moments[2], (spare[2] ?? 0) - 300);
    expect(await tokensAt()).toBeCloseTo(before + 0.35, 3);
    const next = await eventually(grant, { what: 'a request that is granted after it' });
    const owed = await tokensAt();
    await settle(next, 0);
    expect(await tokensAt()).toBeCloseTo(owed + (next.tokensSpare ?? 0) / 1000, 3);
  });

  test('the share of a key that others use too falls in the midst of answers, and rises again after the pause', async () => {
    limits = { tokensPerMinute: 6150 };
    await takeBudget(fixture.db, account, take(1));
    const answered = () => settleBudget(fixture.db, account, limits, { tokens: 0, spent: [], answered: true });
    const limited = () => refuseBudget(fixture.db, account, { waitMs: 3_600_000, limited: true, reason: 'HTTP 429' });
    await answered();
    await limited();
    await limited();
    await answered();
    expect(await state()).toMatchObject({ share: 0.95 });
    // An hour later.
    await fixture.db.query(
      `UPDATE freshvec.account SET resumes_at = resumes_at - interval '1 h', share_fell_at = share_fell_at - interval '1 h',
         share_rose_at = share_rose_at - interval '1 h' WHERE account = $1`,
      [account],
    );
    await limited();
    expect(Number((await state())?.share)).toBeCloseTo(0.95 * 0.95, 6);
    await fixture.db.query(
      `UPDATE freshvec.account SET share_rose_at = clock_timestamp() - interval '1 min' WHERE account = $1`,
      [account],
    );
    await answered();
    expect(await state()).toMatchObject({ share: 1 });
  });

  test('a pause that the provider asked for holds for everybody', async () => {
    await takeBudget(fixture.db, account, take(1));
    await refuseBudget(fixture.db, account, { waitMs: 5000, limited: true, reason: 'HTTP 429' });
    const next = await takeBudget(fixture.db, account, take(1));
    if (next.granted) throw new Error('granted');
    expect(next.why).toBe('HTTP 429');
    expect(next.waitMs).toBeGreaterThan(4000);
    expect(next.waitMs).toBeLessThanOrEqual(5000);
    // A longer one counts, a shorter one does not.
    await refuseBudget(fixture.db, account, { waitMs: 1000, limited: true, reason: 'HTTP 429' });
    const later = await takeBudget(fixture.db, account, take(1));
    expect(later.granted ? 0 : later.waitMs).toBeGreaterThan(3000);
  });

  test('an outage that names a time is one too: it is counted once, and the pauses grow', async () => {
    await takeBudget(fixture.db, account, take(1));
    const outage = (waitMs: number) =>
      refuseBudget(fixture.db, account, { waitMs, limited: false, reason: 'HTTP 503' });
    for (const waitMs of [3_600_000, 3_600_100, 0]) await outage(waitMs); // A volley.
    expect(await state()).toMatchObject({ failures: 1, rests: true });
    const over = 'UPDATE freshvec.account SET resumes_at = clock_timestamp(), failures = $2 WHERE account = $1';
    await fixture.db.query(over, [account, 8]);
    expect(await takeBudget(fixture.db, account, take(1))).toMatchObject({ granted: true, probe: true });
    expect(await takeBudget(fixture.db, account, take(1))).toMatchObject({ granted: false, why: 'HTTP 503' });
    await outage(0);
    expect(await state()).toMatchObject({ failures: 9, rests: true });
    const next = await takeBudget(fixture.db, account, take(1));
    expect(next.granted ? 0 : next.waitMs).toBeGreaterThan(20_000);
  });

  test('a refusal for want of room is no outage, unless it names no time or a very long one', async () => {
    await takeBudget(fixture.db, account, take(1));
    const limited = async (waitMs: number | undefined) => {
      await fixture.db.query('UPDATE freshvec.account SET resumes_at = NULL WHERE account = $1', [account]);
      await refuseBudget(fixture.db, account, { waitMs, limited: true, reason: 'HTTP 429' });
      return (await state())?.failures;
    };
    expect(await limited(0)).toBe(0);
    expect(await limited(60_000)).toBe(0);
    expect(await limited(undefined)).toBe(1);
    expect(await limited(900_000)).toBe(2);
  });

  test('after an outage one request goes ahead, and its answer lets the others follow', async () => {
    await takeBudget(fixture.db, account, take(1));
    const outage = { waitMs: undefined, limited: false, reason: 'HTTP 503' };
    for (let i = 0; i < 5; i++) await refuseBudget(fixture.db, account, outage); // A volley is one outage.
    expect(await state()).toMatchObject({ failures: 1, rests: true });
    await fixture.db.query('UPDATE freshvec.account SET resumes_at = clock_timestamp() WHERE account = $1', [account]);
    expect(await takeBudget(fixture.db, account, take(1))).toMatchObject({ granted: true });
    expect(await takeBudget(fixture.db, account, take(1))).toMatchObject({ granted: false, why: 'HTTP 503' });
    await refuseBudget(fixture.db, account, outage);
    expect(await state()).toMatchObject({ failures: 2, rests: true });
    await fixture.db.query('UPDATE freshvec.account SET resumes_at = clock_timestamp() WHERE account = $1', [account]);
    expect(await takeBudget(fixture.db, account, take(1))).toMatchObject({ granted: true });
    await settleBudget(fixture.db, account, limits, { tokens: 0, spent: [], rateLimit: undefined, answered: true });
    for (let i = 0; i < 3; i++) expect(await takeBudget(fixture.db, account, take(1))).toMatchObject({ granted: true });
    expect(await state()).toMatchObject({ failures: 0 });
  });

  test('the day is never charged over its cap, and what was reserved for nothing comes back', async () => {
    await fixture.db.exec('TRUNCATE freshvec.spend_day, freshvec.spend_reserved');
    const paid = take(1, { nanos: 40, capNanos: 100 });
    expect((await takeBudget(fixture.db, account, paid)).granted).toBe(true);
    expect((await takeBudget(fixture.db, account, paid)).granted).toBe(true);
    const over = await takeBudget(fixture.db, account, paid);
    // Of what is reserved some may come back.
    expect(over).toMatchObject({ granted: false, why: 'cap_held' });
    expect(over.granted ? 0 : over.waitMs).toBeLessThanOrEqual(250);
    const spent = [{ ...charged, period: await period(), tokens: 1, nanos: 5, reserved: 40 }];
    await settleBudget(fixture.db, account, limits, { tokens: 0, spent, rateLimit: undefined, answered: true });
    expect((await takeBudget(fixture.db, account, paid)).granted).toBe(true);
    expect(await days()).toEqual([{ nanos: 5, reserved: 80 }]);
    const dear = [{ ...charged, period: await period(), tokens: 1, nanos: 95, reserved: 80 }];
    await settleBudget(fixture.db, account, limits, { tokens: 0, spent: dear, rateLimit: undefined, answered: true });
    const spentUp = await takeBudget(fixture.db, account, paid);
    expect(spentUp).toMatchObject({ granted: false, why: 'cap' });
    expect(spentUp.granted ? 0 : spentUp.waitMs).toBeLessThanOrEqual(86_400_000);
  });

  test('what a killed worker had reserved comes back by itself', async () => {
    await fixture.db.exec('TRUNCATE freshvec.spend_day, freshvec.space_spend, freshvec.spend_reserved');
    await fixture.db.query('INSERT INTO freshvec.space_spend (space_id, cap_nanos) VALUES (7, 100)');
    const paid = take(1, { nanos: 60, spaceId: 7 });
    expect((await takeBudget(fixture.db, account, paid)).granted).toBe(true);
    expect(await takeBudget(fixture.db, account, paid)).toMatchObject({ granted: false, why: 'space_cap_held' });
    await fixture.db.query('UPDATE freshvec.spend_reserved SET period = period - 2');
    expect((await takeBudget(fixture.db, account, paid)).granted).toBe(true);
    expect(await days()).toEqual([{ nanos: 0, reserved: 60 }]);
  });

  test('many takers at once never get more than there is', async () => {
    limits = { requestsPerMinute: 61.5 };
    const taken = await Promise.all(
      Array.from({ length: 40 }, () => takeBudget(fixture.db, account, take(1, { burstSeconds: 5 }))),
    );
    const granted = taken.filter((one) => one.granted).length;
    expect(granted).toBeGreaterThanOrEqual(5);
    expect(granted).toBeLessThan(20);
  });
});
