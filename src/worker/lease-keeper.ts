import { LEASE_SECONDS } from '../claim/lease.js';
import { renew } from '../claim/renew.js';
import { release } from '../claim/settle.js';
import type { Executor } from '../db/database.js';
import type { LeaseWatch } from '../pipeline.js';

/** How often leases that could not be given back are tried again, in ms. */
const OWED_MS = 1000;

/** Keeps the leases of this process's drains alive, and gives back what the database was away for. */
export class LeaseKeeper implements LeaseWatch {
  private readonly tokens = new Set<string>();
  /** Leases that could not be given back, by token, with their space. */
  private readonly owed = new Map<string, number>();
  private paying: NodeJS.Timeout | undefined;
  private readonly renewal: NodeJS.Timeout;

  constructor(private readonly db: Executor) {
    this.renewal = setInterval(() => this.renewAll(), (LEASE_SECONDS * 1000) / 3);
    this.renewal.unref();
  }

  hold(token: string): void {
    this.tokens.add(token);
  }

  drop(token: string): void {
    this.tokens.delete(token);
  }

  /** Else those rows would wait until their leases expire. */
  owe(spaceId: number, token: string): void {
    this.owed.set(token, spaceId);
    this.paying ??= setInterval(() => {
      this.payOwed().then(
        () => this.owed.size === 0 && this.stopPaying(),
        () => {}, // Still away.
      );
    }, OWED_MS);
    this.paying.unref();
  }

  /** What is owed still is left to expire. */
  close(): void {
    clearInterval(this.renewal);
    this.stopPaying();
  }

  private renewAll(): void {
    if (this.tokens.size === 0) return;
    renew(this.db, [...this.tokens]).catch(() => {}); // Past its time a lease is lost, and the write says so.
  }

  private async payOwed(): Promise<void> {
    for (const [token, spaceId] of this.owed) {
      await release(this.db, spaceId, token);
      this.owed.delete(token);
    }
  }

  private stopPaying(): void {
    clearInterval(this.paying);
    this.paying = undefined;
  }
}
