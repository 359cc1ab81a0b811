import { setTimeout as sleep } from 'node:timers/promises';
import { listActiveSpaces, lookForWork } from '../claim/pending.js';
import { lieDown, wakeUp } from '../claim/sleeper.js';
import type { Database } from '../db/database.js';

/** The channel on which capture rings. */
export const CHANNEL = 'freshvec';

/** Ms between looks: straight after work, and then longer and longer while there is none. */
const POLL_MS = [25, 100, 500, 1000] as const;
/** Ms between looks while work is being done, or somebody rings who is not done; capture need not ring then, or does not. */
const BUSY_POLL_MS = 100;
/** Ms between looks that read all pending changes, in place of those since the last dry look. */
const FULL_LOOK_MS = 1000;
/** How long the list of spaces that a ring wakes is good for; a look finds a new one. */
const SPACES_MS = 1000;
/** Once work has gone on for so many ms, or capture has rung so often, it is told to stop. */
const BUSY_AFTER_MS = 1000;
const BUSY_AFTER_RINGS = 10;
/** For so many ms after a ring looks come as often: who came while somebody rang did not ring, and may commit later. */
const RUNG_MS = 2000;

export interface DoorbellOptions {
  readonly db: Database;
  /** Has this space drained; resolves once that is on its way, not when it is done. */
  readonly wake: (spaceId: number) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

/**
 * Notices work. A notification in every transaction of the app would cost it most of its throughput, so capture rings
 * only while somebody sleeps: `freshvec.ring_until`, set when a look finds nothing, followed by one more look, and taken
 * back when work goes on. What falls between is found by the poll.
 */
export class Doorbell {
  private readonly stopped = new AbortController();
  private rung = false;
  /** Since the last dry look. */
  private rings = 0;
  private rungAt = Number.NEGATIVE_INFINITY;
  private nap = new AbortController();
  private fromId = 0;
  private upToId = -1;
  private spaces: readonly number[] = [];
  private spacesAt = Number.NEGATIVE_INFINITY;
  private lookedAt = Number.NEGATIVE_INFINITY;
  private unlisten: (() => Promise<void>) | undefined;
  private loop: Promise<void> | undefined;

  constructor(private readonly options: DoorbellOptions) {}

  async start(): Promise<void> {
    try {
      this.unlisten = await this.options.db.listen(CHANNEL, () => this.onRing());
    } catch (error) {
      this.options.onError(error); // Poll only.
    }
    this.loop = this.run();
  }

  async stop(): Promise<void> {
    this.stopped.abort();
    this.nap.abort();
    await this.loop;
    await this.unlisten?.();
    if (this.unlisten) await wakeUp(this.options.db).catch(() => {}); // Else it expires.
  }

  private onRing(): void {
    this.rung = true;
    this.rings += 1;
    this.rungAt = performance.now();
    this.nap.abort();
  }

  private async run(): Promise<void> {
    let dry = 0;
    let busySince: number | undefined;
    while (!this.stopped.signal.aborted) {
      const rung = this.rung;
      this.rung = false;
      let waitMs: number = POLL_MS[Math.min(dry, POLL_MS.length - 1)] ?? BUSY_POLL_MS;
      try {
        const spaces = rung ? await this.everySpace() : await this.look();
        if (spaces.length > 0) {
          await Promise.all(spaces.map((id) => this.options.wake(id)));
          busySince ??= performance.now();
          dry = 0;
          waitMs = BUSY_POLL_MS;
          const longBusy = performance.now() - busySince > BUSY_AFTER_MS;
          if (longBusy || this.rings > BUSY_AFTER_RINGS) await wakeUp(this.options.db);
        } else {
          busySince = undefined;
          this.rings = 0;
          dry += 1;
          // It rang for paused sources only: once a poll is enough of that.
          if (rung) await wakeUp(this.options.db);
          else if (this.unlisten) {
            const { rings, ringing } = await lieDown(this.options.db);
            if (!rings) continue; // One more look.
            if (ringing || performance.now() - this.rungAt < RUNG_MS) waitMs = Math.min(waitMs, BUSY_POLL_MS);
          }
        }
      } catch (error) {
        this.options.onError(error);
        waitMs = 1000;
      }
      if (!this.rung) await this.wait(waitMs);
    }
  }

  /** Who rang is not said: a drain that finds nothing costs less than a look at every pending change. */
  private async everySpace(): Promise<readonly number[]> {
    if (performance.now() - this.spacesAt > SPACES_MS) {
      this.spaces = await listActiveSpaces(this.options.db);
      this.spacesAt = performance.now();
    }
    return this.spaces;
  }

  /**
   * Starts from where the look before the last dry one ended: a change may have had its number at that look and commit
   * only now. One that took longer waits for a full look.
   */
  private async look(): Promise<readonly number[]> {
    const full = performance.now() - this.lookedAt >= FULL_LOOK_MS;
    if (full) this.lookedAt = performance.now();
    const { spaceIds, upToId } = await lookForWork(this.options.db, full ? 0 : this.fromId);
    if (spaceIds.length === 0) {
      this.fromId = this.upToId + 1;
      this.upToId = upToId;
    }
    return spaceIds;
  }

  private async wait(ms: number): Promise<void> {
    this.nap = new AbortController();
    await sleep(ms, undefined, { signal: this.nap.signal }).catch(() => {});
  }
}
