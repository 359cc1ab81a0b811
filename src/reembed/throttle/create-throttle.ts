import type { Signal } from '../../catalog/migration.js';
import { maskText } from '../../config/mask.js';
import type { ThrottleSettings } from '../../config/throttle.js';
import type { Database } from '../../db/database.js';
import { classify } from '../../db/errors.js';
import { within } from '../../observe/deadline.js';
import { isFelt, nextShare } from './aimd.js';
import { type Reader, type Reading, unknown } from './reading.js';
import { openReaders, type ThrottleTarget } from './signals/index.js';

export type { ThrottleTarget } from './signals/index.js';

export interface Tick {
  /** The part of the time that the backfill may work until the next tick, 0 to 1. */
  readonly share: number;
  /** Every signal that is watched, with the reason of those that are pressed or unknown. */
  readonly signals: readonly Signal[];
}

/** Says how much of its time a backfill may work, by what the database feels. */
export interface Throttle {
  /**
   * Reads all signals; to be called about once a second. `share` is the one that holds at present. Never throws: what
   * cannot be read slows down.
   */
  tick(share: number): Promise<Tick>;
  /** Resolves once nothing is read any more. */
  close(): Promise<void>;
}

/** How long a tick may take, in ms: short against the 15 s for which workers believe a share. */
const TICK_MS = 5_000;

/** Opens no connection by itself; `db` needs one to spare. */
export function createThrottle(db: Database, settings: ThrottleSettings, target: ThrottleTarget): Throttle {
  return new DatabaseThrottle(db, settings, openReaders(db.kind, settings, target));
}

/** One look at all signals. It may outlast its tick; then nothing is begun beside it. */
interface Round {
  readonly readings: Map<Reader, readonly Reading[]>;
  done: Promise<void>;
  /** Its tick was over: what is left of it is not begun any more. */
  late: boolean;
}

class DatabaseThrottle implements Throttle {
  /** Since when a signal cannot be read, by name, in ms of this process's clock. */
  readonly #failedSince = new Map<string, number>();
  /** Nothing was felt of the backfill yet below this share; another process that takes over finds out anew. */
  #doublesBelow = 1;
  #round: Round | undefined;
  #closed = false;

  constructor(
    private readonly db: Database,
    private readonly settings: ThrottleSettings,
    private readonly readers: readonly Reader[],
  ) {}

  async tick(share: number): Promise<Tick> {
    const round = this.#round ?? this.#begin(share);
    await within(round.done, TICK_MS, 'Reading the signals').catch(() => {});
    if (this.#round === round) round.late = true;
    const readings = this.readers.flatMap((reader) => round.readings.get(reader) ?? unanswered(reader));
    const judged = readings.map((reading) => this.#judgeFailure(reading));
    const effects = judged.map(({ effect }) => effect);
    const next = nextShare(share, effects, this.#doublesBelow);
    if (effects.some(isFelt)) this.#doublesBelow = Math.min(this.#doublesBelow, next);
    return { share: next, signals: judged.map(({ signal }) => signal) };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#round?.done;
  }

  #begin(share: number): Round {
    const round: Round = { readings: new Map(), done: Promise.resolve(), late: false };
    this.#round = round;
    round.done = this.#readAll(round, share).finally(() => {
      this.#round = undefined;
    });
    return round;
  }

  /** One after the other, so that a throttle takes one connection and not ten. */
  async #readAll(round: Round, share: number): Promise<void> {
    for (const reader of this.readers) {
      if (round.late || this.#closed) return;
      round.readings.set(reader, await attempt(reader, this.db, share));
    }
  }

  /** What cannot be read for too long stops the backfill: nobody knows what it does to the database. */
  #judgeFailure(reading: Reading): Reading {
    const { name, note } = reading.signal;
    if (!reading.failed) {
      this.#failedSince.delete(name);
      return reading;
    }
    const since = this.#failedSince.get(name) ?? performance.now();
    this.#failedSince.set(name, since);
    const seconds = (performance.now() - since) / 1000;
    const { unknownStopsSeconds } = this.settings;
    if (unknownStopsSeconds === null || seconds <= unknownStopsSeconds) return reading;
    const told = `${note}; for ${Math.round(seconds)} s, so the backfill rests (throttle.unknownStopsSeconds)`;
    return { ...reading, signal: { ...reading.signal, note: told }, effect: 'stop' };
  }
}

async function attempt(reader: Reader, db: Database, share: number): Promise<readonly Reading[]> {
  try {
    return await reader.read(db, share);
  } catch (error) {
    const failed = classify(error) !== 'privilege';
    const note = maskText(error instanceof Error ? error.message : String(error));
    return reader.gauges.map((gauge) => unknown(gauge, note, failed));
  }
}

function unanswered(reader: Reader): Reading[] {
  return reader.gauges.map((gauge) => unknown(gauge, `not answered within ${TICK_MS} ms`, true));
}
