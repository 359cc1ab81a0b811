import { describe, expect, it } from 'vitest';
import { rateLimitOf, retryAfterOf } from '../../src/embed/providers/response-headers.js';

const read = (headers: Record<string, string>) => rateLimitOf((name) => headers[name]);

describe('the headers of rate limits', () => {
  it("are OpenAI's", () => {
    const headers = {
      'x-ratelimit-limit-requests': '3000',
      'x-ratelimit-remaining-requests': '2999',
      'x-ratelimit-reset-requests': '20ms',
      'x-ratelimit-limit-tokens': '1000000',
      'x-ratelimit-remaining-tokens': '999990',
      'x-ratelimit-reset-tokens': '6m0s',
    };
    expect(read(headers)).toEqual({
      limitRequests: 3000,
      remainingRequests: 2999,
      resetRequestsMs: 20,
      limitTokens: 1_000_000,
      remainingTokens: 999_990,
      resetTokensMs: 360_000,
    });
  });

  it("are Azure's, of which there are only two", () => {
    const headers = { 'x-ratelimit-remaining-requests': '5', 'x-ratelimit-remaining-tokens': '0' };
    expect(read(headers)).toEqual({ remainingRequests: 5, remainingTokens: 0 });
  });

  it.each([
    ['1s', 1000],
    ['120ms', 120],
    ['1m30.5s', 90_500],
    ['1h2m3s', 3_723_000],
    ['1d', 86_400_000],
    ['0.1ms', 1],
    ['0s', 0],
    ['2', 2000],
    [' 8.64s ', 8640],
  ])('reset in %s', (text, ms) => {
    expect(read({ 'x-ratelimit-reset-tokens': text })).toEqual({ resetTokensMs: ms });
  });

  it.each(['', 'soon', '-1s', '1x', 's', '1s2', 'NaN', '1e9', '1789000000', '999999999d', '2025-01-01T00:00:00Z'])(
    'nonsense such as "%s" is left out',
    (text) => {
      expect(read({ 'x-ratelimit-reset-requests': text, 'x-ratelimit-limit-tokens': '7' })).toEqual({ limitTokens: 7 });
      expect(read({ 'x-ratelimit-reset-requests': text })).toBeUndefined();
    },
  );

  it.each(['-1', '1.5', 'unlimited', '', '99999999999999999999'])('a count of "%s" is left out', (text) => {
    expect(read({ 'x-ratelimit-remaining-tokens': text })).toBeUndefined();
  });
});

describe('the time to wait', () => {
  const wait = (headers: Record<string, string>) => retryAfterOf((name) => headers[name]);
  const at = (ms: number) => new Date(ms).toUTCString();

  it.each([
    [{ 'retry-after': '2' }, 2000],
    [{ 'retry-after-ms': '120', 'retry-after': '1' }, 120],
    [{ 'retry-after': 'soon' }, undefined],
    [{}, undefined],
  ])('of %j', (headers, ms) => {
    expect(wait(headers)).toBe(ms);
  });

  it.each(['86400', '1789000000', at(Date.now() + 86_400_000)])('is no more than 15 minutes: %s', (named) => {
    expect(wait({ 'retry-after': named })).toBe(900_000);
  });

  it("is told by the provider's clock, whatever ours says", () => {
    const theirs = Date.parse('2031-01-01T00:00:00Z');
    expect(wait({ date: at(theirs), 'retry-after': at(theirs + 30_000) })).toBe(30_000);
    expect(wait({ date: at(theirs), 'retry-after': at(theirs - 30_000) })).toBe(0);
  });
});
