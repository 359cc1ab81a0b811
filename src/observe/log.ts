import { type DestinationStream, type Logger, pino } from 'pino';
import { maskText } from '../config/mask.js';
import { sqlState } from '../db/errors.js';

export type Log = Logger;

/**
 * Structured log lines, on stderr unless told. Never holds content, keys of providers or URLs with credentials: errors
 * are logged by code and message only, because a driver's error carries the statement's parameters.
 */
export function createLog(
  level: string,
  destination: DestinationStream = pino.destination({ dest: 2, sync: true }),
): Log {
  return pino({ level, base: { pid: process.pid }, serializers: { err: describeError } }, destination);
}

/** What of an error may be shown: its code and its message. */
export function describeError(error: unknown): { code: string; message: string } {
  if (!(error instanceof Error)) return { code: 'unexpected', message: maskText(String(error)) };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : 'unexpected';
  if (QUOTES_VALUES.test(sqlState(error) ?? '')) {
    return { code, message: 'PostgreSQL refused a value; what it says of it may hold content and is not shown.' };
  }
  return { code, message: maskText(messageOf(error)) };
}

/** Data exceptions ("invalid input syntax for type integer: …") and what the app's own functions raise. */
const QUOTES_VALUES = /^(22|P0001)/;

/** An AggregateError (a refused connection on two addresses) has no message of its own. */
function messageOf(error: Error): string {
  if (error.message !== '') return error.message;
  if (error instanceof AggregateError)
    return error.errors.map((e) => (e instanceof Error ? e.message : String(e))).join('; ');
  return error.name;
}
