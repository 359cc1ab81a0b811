import { type Signal, SLOWEST_SHARE } from '../../catalog/migration.js';
import type { Database } from '../../db/database.js';
import type { Effect } from './aimd.js';

/** What is measured: a signal without its reading. */
export type Gauge = Pick<Signal, 'name' | 'unit' | 'bound'>;

export interface Reading {
  readonly signal: Signal;
  readonly effect: Effect;
  /** It could not be read, for no reason that lies in how things are set up: not for ever. */
  readonly failed?: boolean;
}

/** Reads signals that come from one place. */
export interface Reader {
  /** All that it reads: unknown when it fails. */
  readonly gauges: readonly Gauge[];
  /** In short read-only transactions. `share` is what the backfill works at present. Throws where it cannot. */
  read(db: Database, share: number): Promise<Reading[]>;
}

/** Limit of a statement that reads a signal, in ms. */
export const READ_MS = 1_000;
/** The share below which what the backfill does can hardly be the reason. */
export const BACKGROUND_FLOOR = SLOWEST_SHARE;

export interface Judgement {
  /** The share that it slows down to, or holds the backfill below. */
  readonly floor: number | { readonly atMost: number };
  /** Part of the bound from which on it does not get faster: it settles there rather than swing about the bound. */
  readonly holdFrom?: number;
  /** Over this value, or where it is true, the backfill rests. */
  readonly stopOver?: number | true | undefined;
  readonly note?: string | undefined;
  /** Told only where the value is over a bound: what that means, and what to do. */
  readonly why?: string | undefined;
}

/** A value that should not be over the gauge's bound. */
export function judge(
  gauge: Gauge,
  value: number,
  { floor, holdFrom = 1, stopOver = Number.POSITIVE_INFINITY, note, why }: Judgement,
): Reading {
  const { bound } = gauge;
  const stops = stopOver === true || value > stopOver;
  if (stops || value > bound) {
    const told = why ?? note;
    const signal: Signal = { ...gauge, state: 'pressed', value, ...(told !== undefined && { note: told }) };
    return { signal, effect: stops ? 'stop' : typeof floor === 'number' ? { slow: floor } : floor };
  }
  const signal: Signal = { ...gauge, state: 'fine', value, ...(note !== undefined && { note }) };
  return { signal, effect: holdFrom < 1 && value > bound * holdFrom ? 'hold' : 'rise' };
}

/** There is nothing to compare with yet: nothing gets faster meanwhile. */
export function notYet(gauge: Gauge, note: string): Reading {
  return { signal: { ...gauge, state: 'fine', value: null, note }, effect: 'wait' };
}

/** Not to be had: slower, but not for ever slower still. `note` says why and what to do. */
export function unknown(gauge: Gauge, note: string, failed = false): Reading {
  return { signal: { ...gauge, state: 'unknown', value: null, note }, effect: { slow: BACKGROUND_FLOOR }, failed };
}

/** What a role without pg_monitor is told. */
export function mayNotSee(what: string, role: string, setting: string): string {
  return `${role} may not see ${what}: GRANT pg_monitor TO ${role}, or set throttle.${setting} to null`;
}

/** Where the values of a signal count as much the app's as the backfill's: such a value slows down to `FLOOR`. */
export const HOLD_FROM = 0.8;
/** A bound passed so many times over stops the backfill. */
export const STOP_TIMES = 10;
