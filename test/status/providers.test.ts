import { afterAll, beforeAll, expect, test } from 'vitest';
import { refuseBudget, settleBudget, takeBudget } from '../../src/budget/account.js';
import type { Status } from '../../src/index.js';
import { freshvec } from '../cli/support.js';
import { type Fixture, openFixture } from '../support/fixture.js';

let fixture: Fixture;
beforeAll(async () => {
  fixture = await openFixture();
  await fixture.db.exec('CREATE TABLE notes (id int PRIMARY KEY, body text)');
  await fixture.add({ table: 'notes', content: { columns: ['body'] }, model: 'fake/a@4' });
});
afterAll(() => fixture.close());

const ACCOUNT = '0123456789abcdef paid';
const take = {
  limits: {},
  tokens: 1,
  burstSeconds: 1,
  urgent: false,
  nanos: 0,
  capNanos: undefined,
  spaceId: undefined,
};
const run = (...argv: string[]) => freshvec(['status', ...argv], { env: { DATABASE_URL: fixture.url } });
const providers = async () => (await run('--json')).json<Status>().providers;

test('says which provider rests, why, and until when', async () => {
  expect(await providers()).toEqual([]);
  await takeBudget(fixture.db, ACCOUNT, take);
  await refuseBudget(fixture.db, ACCOUNT, { waitMs: undefined, limited: false, reason: 'openai/paid@4: HTTP 503' });
  await fixture.db.query(`UPDATE freshvec.account SET resumes_at = clock_timestamp() + interval '1 hour'`);
  const about = { account: '0123456789abcdef', model: 'paid', reason: 'openai/paid@4: HTTP 503' };
  expect(await providers()).toEqual([{ ...about, resumesAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/) }]);
  const rests = /^paid \(account 0123456789abcdef\) rests: openai\/paid@4: HTTP 503 \(asked again \d{4}-.*Z\)$/m;
  expect((await run()).stdout).toMatch(rests);

  // Its time is over, and nobody has asked yet.
  await fixture.db.query('UPDATE freshvec.account SET resumes_at = clock_timestamp()');
  expect(await providers()).toEqual([{ ...about, resumesAt: null }]);
  expect((await run()).stdout).toMatch(/HTTP 503 \(asked again by one request, to see whether it works\)$/m);
  await settleBudget(fixture.db, ACCOUNT, {}, { tokens: 0, spent: [], rateLimit: undefined, answered: true });
  expect(await providers()).toEqual([]);
});
