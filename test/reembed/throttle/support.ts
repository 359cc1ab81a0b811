import { expect } from 'vitest';
import type { Signal } from '../../../src/catalog/migration.js';
import { THROTTLE_DEFAULTS, type ThrottleSettings } from '../../../src/config/throttle.js';
import type { Database } from '../../../src/db/database.js';
import { createThrottle, type Throttle, type ThrottleTarget } from '../../../src/reembed/throttle/create-throttle.js';
import { eventually } from '../../support/eventually.js';

/** Every signal switched off that can be. */
export const OFF: ThrottleSettings = {
  ...THROTTLE_DEFAULTS,
  replicaLagSeconds: null,
  replicaLagBytes: null,
  slotBytes: null,
  walBytesPerSecond: null,
  walDirectoryBytes: null,
  requestedCheckpoints: null,
  lockWaiters: null,
  lockWaitMs: null,
  transactionSeconds: null,
  xminAge: null,
  vacuum: false,
  deadRowShare: null,
  maxDatabaseBytes: 2 ** 50,
  probeMs: null,
  indexedShare: null,
  editWaitSeconds: null,
  providerWaitSeconds: null,
};

export class Watched {
  share = 1;
  readonly shares: number[] = [];
  signals: readonly Signal[] = [];
  private readonly throttle: Throttle;

  /** A throttle that watches only what `settings` switches on. */
  constructor(db: Database, target: ThrottleTarget, settings: Partial<ThrottleSettings>) {
    this.throttle = createThrottle(db, { ...OFF, ...settings }, target);
  }

  async tick(): Promise<void> {
    const { share, signals } = await this.throttle.tick(this.share);
    expect(share).toBeGreaterThanOrEqual(0);
    expect(share).toBeLessThanOrEqual(1);
    this.share = share;
    this.shares.push(share);
    this.signals = signals;
  }

  signal(name: string): Signal {
    const found = this.signals.find((signal) => signal.name === name);
    if (!found) throw new Error(`no signal ${name}: ${this.signals.map((signal) => signal.name)}`);
    return found;
  }

  /** Ticks until the signal is so, and gives it. */
  async until(name: string, so: Partial<Signal> | ((signal: Signal) => boolean), timeoutMs = 20_000): Promise<Signal> {
    let last: Signal | undefined;
    const look = async () => {
      await this.tick();
      last = this.signal(name);
      if (
        typeof so === 'function'
          ? !so(last)
          : Object.entries(so).some(([key, value]) => last?.[key as keyof Signal] !== value)
      )
        throw new Error(JSON.stringify(last));
      return last;
    };
    return eventually(look, { timeoutMs, intervalMs: 20, what: `${name} being ${String(JSON.stringify(so))}` });
  }

  async untilShare(share: number): Promise<void> {
    const there = async () => {
      await this.tick();
      return this.share === share;
    };
    await eventually(there, { timeoutMs: 20_000, intervalMs: 20, what: `a share of ${share}` });
  }

  close(): Promise<void> {
    return this.throttle.close();
  }
}
