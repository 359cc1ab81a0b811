import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../db/database.js';
import { FreshvecError, sqlState } from '../db/errors.js';
import type { Gate, Priority } from '../embed/gate.js';
import type { EmbedResult } from '../embed/port.js';
import { type ConfiguredLimits, type KnownLimits, knownLimits, type Taken, takeBudget } from './account.js';
import { Concurrency } from './concurrency.js';
import { Line, type Waiting } from './line.js';
import { type Asked, type Grant, granted, NOTHING, type Purse } from './request.js';
import { mostTokensPerRequest } from './request-size.js';
import { isHeld, resting } from './resting.js';
import { type Send, Sender } from './sender.js';
import { NANOS_PER_DOLLAR, nanosOf } from './spend.js';

/**
 * How far each may run ahead of the limit, in s. Work that can wait keeps the limit full up to its own bound, so there is
 * always room left for what cannot. A query goes ahead of any bound.
 */
const BURST_SECONDS: Readonly<Record<Priority, number>> = { query: 1, interactive: 1, bulk: 0.75, load: 0.55 };

/** A pause longer than this is not waited for: the texts go back, and the slot to somebody else. */
const PATIENCE_MS = 2000;
/** How long money that is reserved, and may come back, is waited for: that of a killed worker does after minutes only. */
const HELD_PATIENCE_MS = 10_000;
/** How long a query waits for the budget's row, or for a connection: then it goes ahead, and is charged later. */
const QUERY_WAIT_MS = 250;
/** How long a process that may not write leaves it at that. */
const BLIND_MS = 60_000;
const MOST_AT_ONCE = 64;

/** The gate of one account in this process. Hand its figures over with `flush`, and with `close` before the process ends. */
export interface AccountGate {
  for(purse: Purse): Gate;
  flush(): Promise<void>;
  close(): Promise<void>;
}

export interface GateOptions {
  readonly db: Database;
  readonly account: string;
  readonly limits: ConfiguredLimits;
  /** USD that a day may cost. */
  readonly capPerDay: number | undefined;
  readonly onError: (error: unknown) => void;
}

/** The limits are shared by all processes. */
export function createGate(options: GateOptions): AccountGate {
  return new SharedGate(options);
}

class SharedGate implements AccountGate {
  private readonly concurrency = new Concurrency(MOST_AT_ONCE);
  private readonly line = new Line<Asked, Grant>(() => this.stir());
  private readonly sender: Sender;
  private underWay = 0;
  private pumping = false;
  private nap = new AbortController();
  /** Spaces that wait for reserved money of their own, and until when others go ahead of them, by `performance.now()`. */
  private readonly aside = new Map<Purse['spaceId'], number>();
  /** Of the last take. */
  private limits: KnownLimits | undefined;
  /** This process may not write, so queries are not charged until then. */
  private blindUntil = Number.NEGATIVE_INFINITY;

  constructor(private readonly options: GateOptions) {
    this.sender = new Sender({
      ...options,
      // What was reserved came back: somebody may wait for it.
      onWritten: () => {
        this.aside.clear();
        this.nap.abort();
      },
      onLimited: () => this.concurrency.refused(),
      isBlind: () => this.isBlind(),
    });
  }

  for(purse: Purse): Gate {
    return {
      run: (request, send) => {
        const asked = { ...request, purse };
        return request.priority === 'query' ? this.goAhead(asked, send) : this.queue(asked, send);
      },
      maxTokensPerRequest: () => this.maxTokensPerRequest(purse.price),
    };
  }

  flush(): Promise<void> {
    return this.sender.flush();
  }

  close(): Promise<void> {
    return this.sender.close();
  }

  private async queue(asked: Asked, send: Send): Promise<EmbedResult> {
    const grant = await this.line.join(asked);
    const full = this.underWay >= this.concurrency.level;
    const started = performance.now();
    try {
      return await this.sender.send(asked, Promise.resolve(grant), async (also) => {
        const result = await send(also);
        this.concurrency.answered(performance.now() - started, full, result.tokens);
        return result;
      });
    } finally {
      this.underWay -= 1;
      void this.pump();
    }
  }

  /**
   * A person waits: sent at once, and charged, whatever is owed or spent and whether or not that could be taken down in
   * time. Only during an outage most are told so.
   */
  private async goAhead(asked: Asked, send: Send): Promise<EmbedResult> {
    if (this.isBlind()) return send(() => {});
    const taking = this.take(asked).catch((error) => this.untaken(error));
    const grant = taking.then((taken) => (taken?.granted ? granted(asked, taken) : NOTHING));
    const taken = await Promise.race([taking, sleep(QUERY_WAIT_MS, undefined, { ref: false })]);
    if (taken?.granted === false) throw resting(taken, undefined);
    return this.sender.send(asked, grant, send);
  }

  /** A search must not fail because the process that searches may only read. */
  private untaken(error: unknown): undefined {
    const state = sqlState(error);
    if (state !== '42501' && state !== '25006') return void this.options.onError(error);
    if (this.isBlind()) return;
    this.blindUntil = performance.now() + BLIND_MS;
    const what = state === '42501' ? 'its role may not write to the schema freshvec' : 'its database is read-only';
    this.options.onError(
      new FreshvecError('spend_unrecorded', `Queries of this process are not charged to the budget: ${what}.`, {
        cause: error,
      }),
    );
  }

  private isBlind(): boolean {
    return performance.now() < this.blindUntil;
  }

  private async maxTokensPerRequest(price: number): Promise<number> {
    const { db, account, limits, capPerDay } = this.options;
    this.limits ??= await knownLimits(db, account, limits);
    return mostTokensPerRequest(this.limits, { price, capPerDay });
  }

  private stir(): void {
    this.nap.abort();
    void this.pump();
  }

  /** Whose turn it is: a space that waits for its own money holds up no other. */
  private head(): Waiting<Asked, Grant> | undefined {
    return this.line.head((asked) => !this.isAside(asked)) ?? this.line.head();
  }

  private isAside({ purse }: Asked): boolean {
    return performance.now() < (this.aside.get(purse.spaceId) ?? Number.NEGATIVE_INFINITY);
  }

  /** Lets requests through one after the other, the most urgent first. */
  private async pump(): Promise<void> {
    if (this.pumping) return;
    this.pumping = true;
    try {
      for (let head = this.head(); head && this.underWay < this.concurrency.level; head = this.head()) {
        await this.ask(head);
      }
    } finally {
      this.pumping = false;
    }
  }

  private take({ tokens, mostTokens, priority, purse }: Asked): Promise<Taken> {
    const { db, account, limits, capPerDay } = this.options;
    return takeBudget(db, account, {
      limits,
      tokens,
      burstSeconds: BURST_SECONDS[priority],
      urgent: priority === 'query',
      nanos: nanosOf(mostTokens, purse.price),
      capNanos: capPerDay === undefined ? undefined : Math.floor(capPerDay * NANOS_PER_DOLLAR),
      spaceId: purse.spaceId,
    });
  }

  private async ask(head: Waiting<Asked, Grant>): Promise<void> {
    const { asked } = head;
    try {
      // The sleep below ends when something changes from here on.
      this.nap = new AbortController();
      const taken = await this.take(asked);
      this.limits = taken;
      if (taken.granted) {
        const grant = granted(asked, taken);
        // It left meanwhile.
        if (!this.line.leave(head)) return this.sender.unused(asked, Promise.resolve(grant));
        this.underWay += 1;
        return head.go(grant);
      }
      if (isHeld(taken.why)) {
        head.heldSince ??= performance.now();
        void this.sender.flush().catch(this.options.onError); // Some of it may be ours.
        if (performance.now() - head.heldSince < HELD_PATIENCE_MS) {
          if (taken.why === 'space_cap_held') {
            this.aside.set(asked.purse.spaceId, performance.now() + taken.waitMs);
            const next = this.head();
            if (next && !this.isAside(next.asked)) return;
          }
          return await this.sleep(taken.waitMs);
        }
      } else if (taken.why === 'budget' || taken.waitMs <= PATIENCE_MS) return await this.sleep(taken.waitMs);
      if (this.line.leave(head)) head.fail(resting(taken, this.options.capPerDay));
    } catch (error) {
      if (this.line.leave(head)) head.fail(error);
    }
  }

  /** Until the time is over or somebody came. */
  private async sleep(ms: number): Promise<void> {
    await sleep(ms, undefined, { signal: this.nap.signal }).catch(() => {});
  }
}
