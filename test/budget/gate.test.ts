import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { settleBudget, takeBudget } from '../../src/budget/account.js';
import { Concurrency } from '../../src/budget/concurrency.js';
import { type AccountGate, createGate, type GateOptions } from '../../src/budget/gate.js';
import { readSpaceSpend, setSpaceCap } from '../../src/budget/space-cap.js';
import type { ChargedTo } from '../../src/budget/spend.js';
import type { Database } from '../../src/db/database.js';
import { openPostgres } from '../../src/db/postgres.js';
import { type AlsoCharged, type GateRequest, NotSent } from '../../src/embed/gate.js';
import { EmbedError, type EmbedResult } from '../../src/embed/port.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { instead } from '../support/instead.js';

let fixture: Fixture;
let number = 0;
const gates: AccountGate[] = [];
beforeAll(async () => {
  fixture = await openFixture();
});
afterAll(async () => {
  for (const gate of gates) await gate.close();
  await fixture.close();
});

/** The account's gate, as one purse has it. */
interface TestGate extends Pick<AccountGate, 'close' | 'flush'> {
  run(
    request: Partial<GateRequest> & Pick<GateRequest, 'tokens' | 'priority'>,
    send: (also: AlsoCharged) => Promise<EmbedResult>,
  ): Promise<EmbedResult>;
}

const FINGERPRINT = 'openai/paid@4#00000000';

function gateWith(options: Partial<GateOptions & ChargedTo & { price: number }> = {}): TestGate {
  const { source = 'notes', purpose = 'rows', spaceId, price = 0, ...rest } = options;
  const gate = createGate({
    db: fixture.db,
    account: `gate ${++number}`,
    limits: {},
    capPerDay: undefined,
    onError: (error) => {
      throw error;
    },
    ...rest,
  });
  gates.push(gate);
  const purse = { source, purpose, spaceId, price, fingerprint: FINGERPRINT };
  return {
    run: (request, send) => gate.for(purse).run({ mostTokens: request.tokens, texts: 1, ...request }, send),
    close: () => gate.close(),
    flush: () => gate.flush(),
  };
}

const spentToday = () =>
  fixture.db.query(`SELECT nanos / 1e9::float8 AS usd,
    (SELECT coalesce(sum(nanos), 0)::int8 FROM freshvec.spend_reserved) AS reserved FROM freshvec.spend_day`);

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

test("after an outage the first try is nobody else's loss where it is not sent", async () => {
  const account = `gate ${++number}`;
  const [one, two] = [gateWith({ account }), gateWith({ account })];
  const state = () =>
    fixture.db.query('SELECT failures, probe_until FROM freshvec.account WHERE account = $1', [account]);
  const outage = new EmbedError('unavailable', 'HTTP 503', { status: 503 });
  await expect(one.run({ tokens: 1, priority: 'bulk' }, () => Promise.reject(outage))).rejects.toBe(outage);
  const notSent = new NotSent(outage);
  await expect(one.run({ tokens: 1, priority: 'bulk' }, () => Promise.reject(notSent))).rejects.toBe(notSent);
  await one.flush();
  expect(await state()).toEqual([{ failures: 1, probe_until: null }]);
  // The same of one that was cut off, and of one that only a person can mend; then somebody else is answered.
  for (const error of [new Error('cut'), new EmbedError('unauthorised', 'HTTP 401')]) {
    await expect(two.run({ tokens: 1, priority: 'bulk' }, () => Promise.reject(error))).rejects.toBe(error);
    await two.flush();
    expect(await state()).toEqual([{ failures: 1, probe_until: null }]);
  }
  await one.run({ tokens: 1, priority: 'bulk' }, () => answer());
  await one.flush();
  expect(await state()).toEqual([{ failures: 0, probe_until: null }]);
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

test('a process that is configured for no limit leaves those of the others alone', async () => {
  const account = `gate ${++number}`;
  const [worker, tool] = [gateWith({ account, limits: { requestsPerMinute: 1 } }), gateWith({ account })];
  await worker.run({ tokens: 1, priority: 'bulk' }, () => answer());
  await tool.run({ tokens: 1, priority: 'bulk' }, () => answer());
  const stop = new AbortController();
  const next = worker.run({ tokens: 1, priority: 'bulk', signal: stop.signal }, () => answer());
  next.catch(() => {});
  await worker.flush();
  await sleep(100);
  stop.abort(new Error('held back'));
  await expect(next).rejects.toThrow('held back');
});

test('the cap of the day stops everything with what to do about it', async () => {
  await fixture.db.exec('TRUNCATE freshvec.spend_day, freshvec.spend_reserved');
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
  expect(await spentToday()).toEqual([{ usd: 4, reserved: 0 }]);
});

describe('money', () => {
  beforeEach(() =>
    fixture.db.exec('TRUNCATE freshvec.spend_day, freshvec.space_spend, freshvec.spend, freshvec.spend_reserved'),
  );
  const DOLLAR = 1_000_000;
  const capped = { failure: 'spend_cap' };

  test('the cap holds though the estimate was too low', async () => {
    const gate = gateWith({ price: DOLLAR, capPerDay: 300 });
    let charged = 0;
    const send = (tokens: number) => async () => {
      charged += tokens;
      return answer(tokens);
    };
    // Estimated at less than what is charged each time, as after a lesson from other texts.
    await gate.run({ tokens: 297, mostTokens: 299, priority: 'bulk' }, send(297));
    await expect(gate.run({ tokens: 3, mostTokens: 6, priority: 'bulk' }, send(6))).rejects.toMatchObject(capped);
    await gate.run({ tokens: 2, mostTokens: 3, priority: 'bulk' }, send(3));
    await gate.close();
    expect(charged).toBe(300);
    expect(await spentToday()).toEqual([{ usd: 300, reserved: 0 }]);
  });

  test('money that is only reserved is waited for, not taken for spent', async () => {
    let takes = 0;
    const query: Database['query'] = (sql, ...with_) => {
      if (sql.includes('take_budget')) takes += 1;
      return fixture.db.query(sql, ...with_);
    };
    const gate = gateWith({ price: DOLLAR, capPerDay: 100, db: instead(fixture.db, { query }) });
    let answerFirst = () => {};
    const asked = new Promise<void>((resolve) => {
      answerFirst = resolve;
    });
    const first = gate.run({ tokens: 20, mostTokens: 80, priority: 'bulk' }, async () => {
      await asked;
      return answer(20);
    });
    let sent = false;
    const second = gate.run({ tokens: 20, mostTokens: 80, priority: 'bulk' }, async () => {
      sent = true;
      return answer(20);
    });
    await sleep(400);
    expect(sent).toBe(false);
    expect(takes).toBeLessThan(10); // Asked for now and then, not all the time.
    answerFirst();
    await Promise.all([first, second]);
    await gate.flush();
    expect(await spentToday()).toEqual([{ usd: 40, reserved: 0 }]);
  });

  test('a space that waits for money of its own holds up no other space under the key', async () => {
    const options = { account: `gate ${++number}`, limits: {}, capPerDay: undefined };
    const gate = createGate({ ...options, db: fixture.db, onError: () => {} });
    gates.push(gate);
    const of = (spaceId: number) =>
      gate.for({ source: 'notes', purpose: 'rows', spaceId, price: DOLLAR, fingerprint: FINGERPRINT });
    await setSpaceCap(fixture.db, 7, 100);
    // Reserved by a worker that was killed.
    await fixture.db.exec(`INSERT INTO freshvec.spend_reserved (period, space_id, nanos)
      SELECT extract(epoch FROM clock_timestamp())::int / 600, 7, 90 * 1000000000::int8`);
    const dear = { tokens: 20, mostTokens: 20, texts: 1 };
    const order: string[] = [];
    const held = of(7).run({ ...dear, priority: 'interactive' }, async () => {
      order.push('held');
      return answer(20);
    });
    await sleep(50);
    await of(8).run({ ...dear, priority: 'load' }, async () => {
      order.push('other');
      return answer(20);
    });
    expect(order).toEqual(['other']);
    // Its turn comes once there is money.
    await fixture.db.exec('TRUNCATE freshvec.spend_reserved');
    await held;
    expect(order).toEqual(['other', 'held']);
    await gate.flush();
  });

  test('a query goes ahead of the limit, of the cap and of everybody, and all wait for what it takes', async () => {
    const gate = gateWith({ limits: { requestsPerMinute: 1 }, price: DOLLAR, capPerDay: 5 });
    await gate.run({ tokens: 5, priority: 'load' }, () => answer(5));
    const order: string[] = [];
    const waiting = new AbortController();
    const backfill = gate.run({ tokens: 1, priority: 'load', signal: waiting.signal }, async () => {
      order.push('load');
      return answer();
    });
    for (let i = 0; i < 3; i++) {
      await gate.run({ tokens: 2, priority: 'query' }, async () => {
        order.push('query');
        return answer(2);
      });
    }
    expect(order).toEqual(['query', 'query', 'query']);
    waiting.abort(new Error('enough'));
    await expect(backfill).rejects.toThrow('enough');
    await gate.flush();
    expect(await spentToday()).toEqual([{ usd: 11, reserved: 0 }]);
    // Four minutes' worth of requests, of a limit of one a minute: the provider counts those of the last.
    const [owed] = await fixture.db.query<{ seconds: number }>(
      `SELECT requests_at - extract(epoch FROM clock_timestamp()) AS seconds FROM freshvec.account WHERE account = $1`,
      [`gate ${number}`],
    );
    expect(Number(owed?.seconds)).toBeGreaterThan(55);
    expect(Number(owed?.seconds)).toBeLessThanOrEqual(61.5);
  });

  test('what is charged is told by day, source and purpose, and adds up with the day', async () => {
    const account = `gate ${++number}`;
    const rows = gateWith({ account, price: 2.5, spaceId: 7 });
    const queries = gateWith({ account, price: 2.5, purpose: 'query' });
    const texts = gateWith({ account, price: 2.5, source: undefined, purpose: 'text' });
    await rows.run({ tokens: 3, mostTokens: 30, texts: 2, priority: 'bulk' }, () => answer(3));
    await queries.run({ tokens: 1, priority: 'query' }, () => answer(1));
    await texts.run({ tokens: 1, priority: 'query' }, () => answer(1));
    // A batch that is rejected, after the provider was asked for a harmless text.
    const rejected = new EmbedError('input_rejected', 'no');
    const bad = rows.run({ tokens: 3, priority: 'bulk' }, async (also) => {
      also(9);
      throw rejected;
    });
    await expect(bad).rejects.toBe(rejected);
    for (const gate of [rows, queries, texts]) await gate.flush();
    expect(
      await fixture.db.query(
        'SELECT source, space_id, purpose, fingerprint, texts, tokens, nanos FROM freshvec.spend ORDER BY purpose',
      ),
    ).toEqual([
      { source: 'notes', space_id: null, purpose: 'query', fingerprint: FINGERPRINT, texts: 1, tokens: 1, nanos: 2500 },
      { source: 'notes', space_id: 7, purpose: 'rows', fingerprint: FINGERPRINT, texts: 2, tokens: 12, nanos: 30_000 },
      { source: 'notes', space_id: null, purpose: 'text', fingerprint: FINGERPRINT, texts: 1, tokens: 1, nanos: 2500 },
    ]);
    expect(await spentToday()).toEqual([{ usd: 35e-6, reserved: 0 }]);
    expect(await readSpaceSpend(fixture.db, 7)).toEqual({ usd: 30e-6, capUsd: undefined });
  });

  test('what costs less than a millionth of a dollar is not rounded up to it', async () => {
    const gate = gateWith({ price: 0.02, purpose: 'query' });
    for (let i = 0; i < 3; i++) await gate.run({ tokens: 5, priority: 'query' }, () => answer(5));
    await gate.flush();
    expect(await spentToday()).toEqual([{ usd: 3e-7, reserved: 0 }]);
  });

  test('nothing is charged for a request that did not reach the provider, but its estimate for one without an answer', async () => {
    const gate = gateWith({ price: DOLLAR, purpose: 'query' });
    const lost = (details: object) =>
      gate.run({ tokens: 2, priority: 'query' }, () => Promise.reject(new EmbedError('unavailable', 'no', details)));
    await expect(lost({ notSent: true })).rejects.toMatchObject({ failure: 'unavailable' });
    await gate.flush();
    expect(await spentToday()).toEqual([{ usd: 0, reserved: 0 }]);
    await fixture.db.query('UPDATE freshvec.account SET resumes_at = NULL, failures = 0');
    await expect(lost({})).rejects.toMatchObject({ failure: 'unavailable' });
    await gate.flush();
    expect(await spentToday()).toEqual([{ usd: 2, reserved: 0 }]);
  });

  test('a space has a cap of its own', async () => {
    await setSpaceCap(fixture.db, 7, 10);
    const account = `gate ${++number}`;
    const migration = gateWith({ account, price: DOLLAR, spaceId: 7 });
    const live = gateWith({ account, price: DOLLAR, spaceId: 8 });
    await migration.run({ tokens: 8, priority: 'load' }, () => answer(8));
    const refused = migration.run({ tokens: 8, priority: 'load' }, () => answer(8));
    await expect(refused).rejects.toMatchObject({
      ...capped,
      details: {},
      message: expect.stringMatching(/migration/),
    });
    await live.run({ tokens: 8, priority: 'interactive' }, () => answer(8));
    await setSpaceCap(fixture.db, 7, 16);
    await migration.run({ tokens: 8, priority: 'load' }, () => answer(8));
    for (const gate of [migration, live]) await gate.flush();
    expect(await readSpaceSpend(fixture.db, 7)).toEqual({ usd: 16, capUsd: 16 });
    expect(await spentToday()).toEqual([{ usd: 24, reserved: 0 }]);
  });

  test('what comes of a request after midnight is put down on the day that was charged', async () => {
    const taken = {
      limits: {},
      tokens: 5,
      burstSeconds: 1,
      urgent: false,
      nanos: 50,
      capNanos: undefined,
      spaceId: undefined,
    };
    expect(await takeBudget(fixture.db, 'late', taken)).toMatchObject({ granted: true });
    // Midnight.
    const [{ day, period } = { day: '', period: 0 }] = await fixture.db.query<{ day: string; period: number }>(
      `UPDATE freshvec.spend_reserved SET period = period - 144
       RETURNING period, freshvec.day_of_period(period)::text AS day`,
    );
    const about = { source: 'notes', space: null, fingerprint: FINGERPRINT, purpose: 'rows', texts: 1 } as const;
    const spent = [{ ...about, period, tokens: 2, nanos: 20, reserved: 50 }];
    await settleBudget(fixture.db, 'late', {}, { tokens: -3, spent, rateLimit: undefined, answered: true });
    expect(await fixture.db.query('SELECT nanos FROM freshvec.spend_reserved')).toEqual([{ nanos: 0 }]);
    expect(await fixture.db.query('SELECT nanos FROM freshvec.spend_day WHERE day = $1', [day])).toEqual([
      { nanos: 20 },
    ]);
    expect(await fixture.db.query('SELECT day::text, nanos FROM freshvec.spend')).toEqual([{ day, nanos: 20 }]);
  });

  test('figures that cannot be written are written later', async () => {
    const errors: unknown[] = [];
    const gate = gateWith({ price: DOLLAR, onError: (error) => errors.push(error) });
    await gate.run({ tokens: 1, priority: 'bulk' }, async () => {
      await fixture.db.exec('ALTER TABLE freshvec.spend RENAME TO spend_away');
      return answer(1);
    });
    await eventually(() => errors.length > 0, { what: 'the failure' });
    await fixture.db.exec('ALTER TABLE freshvec.spend_away RENAME TO spend');
    const told = async () => (await fixture.db.query('SELECT FROM freshvec.spend')).length === 1;
    await eventually(told, { what: 'the figures' });
    expect(await spentToday()).toEqual([{ usd: 1, reserved: 0 }]);
  });
});

describe('queries', () => {
  test('during an outage one a second asks whether the provider works, the others are told', async () => {
    const account = `gate ${++number}`;
    const [gate, search] = [gateWith({ account }), gateWith({ account, purpose: 'query' })];
    const outage = new EmbedError('unavailable', 'HTTP 503', { status: 503 });
    await expect(gate.run({ tokens: 1, priority: 'bulk' }, () => Promise.reject(outage))).rejects.toBe(outage);
    await fixture.db.query(
      `UPDATE freshvec.account SET resumes_at = clock_timestamp() + interval '1 hour', failures = 9 WHERE account = $1`,
      [account],
    );
    let asked = 0;
    const query = () =>
      search.run({ tokens: 1, priority: 'query' }, () => {
        asked += 1;
        return Promise.reject(outage);
      });
    const began = performance.now();
    const reasons: unknown[] = [];
    for (let i = 0; i < 10; i++) reasons.push(await query().catch((reason: unknown) => reason));
    expect(asked).toBeGreaterThanOrEqual(1);
    expect(asked).toBeLessThanOrEqual(1 + (performance.now() - began) / 1000);
    for (const reason of reasons) expect(reason).toMatchObject({ failure: 'unavailable', message: 'HTTP 503' });
    // Once one is answered, all go.
    await fixture.db.query(`UPDATE freshvec.account SET asked_at = NULL WHERE account = $1`, [account]);
    await search.run({ tokens: 1, priority: 'query' }, () => answer());
    await search.flush();
    await Promise.all(Array.from({ length: 5 }, () => search.run({ tokens: 1, priority: 'query' }, () => answer())));
  });

  test('go ahead in a pause that the provider asked for', async () => {
    const account = `gate ${++number}`;
    const [gate, search] = [gateWith({ account }), gateWith({ account, purpose: 'query' })];
    const refusal = new EmbedError('rate_limited', 'HTTP 429', { retryAfterMs: 60_000 });
    await expect(gate.run({ tokens: 1, priority: 'bulk' }, () => Promise.reject(refusal))).rejects.toBe(refusal);
    await expect(search.run({ tokens: 1, priority: 'query' }, () => answer(3))).resolves.toMatchObject({ tokens: 3 });
  });

  test('do not wait for a budget that does not answer, and are charged when it does', async () => {
    const account = `gate ${++number}`;
    const search = gateWith({ account, source: account, purpose: 'query', price: 1 });
    await search.run({ tokens: 1, priority: 'query' }, () => answer(1));
    await search.flush();
    await fixture.db.session(async (other) => {
      await other.query('BEGIN');
      await other.query('SELECT FROM freshvec.account WHERE account = $1 FOR UPDATE', [account]);
      await search.run({ tokens: 1, priority: 'query' }, () => answer(5));
      await other.query('COMMIT');
    });
    await search.flush();
    const tokens = 'SELECT sum(tokens)::int AS tokens FROM freshvec.spend WHERE source = $1';
    expect(await fixture.db.query(tokens, [account])).toEqual([{ tokens: 6 }]);
  });

  test('go on where the role may only read; that is told once', async () => {
    const errors: unknown[] = [];
    await fixture.db.exec(`DO $$ BEGIN CREATE ROLE freshvec_reader LOGIN PASSWORD 'reader';
      EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT USAGE ON SCHEMA freshvec TO freshvec_reader`);
    const url = new URL(fixture.url);
    [url.username, url.password] = ['freshvec_reader', 'reader'];
    const db = openPostgres({ url: url.href, poolSize: 2, applicationName: 'reader', onError: () => {} });
    try {
      const search = gateWith({ db, purpose: 'query', onError: (error) => errors.push(error) });
      for (let i = 0; i < 3; i++) await search.run({ tokens: 1, priority: 'query' }, () => answer());
      await search.close();
      expect(errors).toMatchObject([{ code: 'spend_unrecorded' }]);
    } finally {
      await db.close();
      await fixture.db.exec('DROP OWNED BY freshvec_reader; DROP ROLE freshvec_reader');
    }
  });
});

test('no more requests at once than the provider takes well', async () => {
  const gate = gateWith();
  let [now, most] = [0, 0];
  await Promise.all(
    Array.from({ length: 100 }, () =>
      gate.run({ tokens: 1, priority: 'bulk' }, async () => {
        now += 1;
        most = Math.max(most, now);
        await sleep(50 + 5 * now * now); // The more at once, the slower each.
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
