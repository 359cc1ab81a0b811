import { createHash } from 'node:crypto';

/** Names an account at a provider: 16 hex digits of a sha256, in which no part can be read. */
export function accountId(...parts: readonly (string | undefined)[]): string {
  const text = JSON.stringify(parts.map((part) => part ?? ''));
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
