import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../db/database.js';
import { type Gate, type GateRequest, NotSent, PRIORITIES, type Priority } from '../embed/gate.js';
import { EmbedError, type EmbedResult, NEEDS_PERSON } from '../embed/port.js';
import {
  type ConfiguredLimits,
  configureAccount,
  type KnownLimits,
  refuseBudget,
  settleBudget,
  takeBudget,
} from './account.js';
import { Concurrency } from './concurrency.js';
import { microsOf } from './spend.js';

/**
 * How far each may run ahead of the limit, in s. Work that can wait keeps the limit full up to its own bound, so there is
 * always room left for what cannot.
 */
const BURST_SECONDS: Readonly<Record<Priority, number>> = { interactive: 1, bulk: 0.75, load: 0.55 };

/** A pause longer than this is not waited for: the texts go back, and the slot to somebody else. */
const PATIENCE_MS = 2000;
/** Corrections are gathered for so long. */
const SETTLE_MS = 200;
const MOST_AT_ONCE = 64;
/**
 * Part of the limit that one request takes at most, in s of it, unless the limit of requests is the tighter one. Less than
 * the smallest burst, or such requests would pass only while nobody owes anything.
 */
const SECONDS_PER_REQUEST = 0.5;
/** Tokens of one request while the limit is not known: workers that start together must not use it up at once. */
const UNKNOWN_TOKENS = 10_000;

/** A gate over a database: hand it its corrections back before the process ends. */
export interface BudgetGate extends Gate {
  close(): Promise<void>;
}

export interface GateOptions {
  readonly db: Database;
  readonly account: string;
  readonly limits: ConfiguredLimits;
  /** USD for a million tokens; 0 where it costs nothing or nobody knows. */
  readonly price: number;
  /** USD that a day may cost. */
  readonly capPerDay: number | undefined;
  readonly onError: (error: unknown) => void;
}

interface Waiting extends GateRequest {
  readonly go: () => void;
  readonly fail: (error: unknown) => void;
}

/** The gate of one account in this process; the limits are shared by all processes. */
export function createGate(options: GateOptions): BudgetGate {
  return new AccountGate(options);
}

class AccountGate implements BudgetGate {
  private readonly concurrency = new Concurrency(MOST_AT_ONCE);
  private readonly waiting = new Map<Priority, Waiting[]>(PRIORITIES.map((priority) => [priority, []]));
  private underWay = 0;
  private pumping = false;
  private nap = new AbortController();
  private configured: Promise<KnownLimits> | undefined;
  private limits: KnownLimits | undefined;
  private owed = { tokens: 0, micros: 0, answered: false };
  private rateLimit: EmbedResult['rateLimit'];
  private settling: NodeJS.Timeout | undefined;
  private flushing: Promise<unknown> | undefined;

  constructor(private readonly options: GateOptions) {}

  async run(request: GateRequest, send: () => Promise<EmbedResult>): Promise<EmbedResult> {
    await this.admitted(request);
    const full = this.underWay >= this.concurrency.level;
    const started = performance.now();
    try {
      const result = await send();
      this.concurrency.answered(performance.now() - started, full, result.tokens);
      this.settle(request.tokens, result.tokens, result, true);
      return result;
    } catch (error) {
      await this.failed(error, request);
      throw error;
    } finally {
      this.underWay -= 1;
      void this.pump();
    }
  }

  async maxTokensPerRequest(): Promise<number> {
    const { requestsPerMinute, tokensPerMinute } = await this.known();
    if (tokensPerMinute === undefined) return UNKNOWN_TOKENS;
    const even = requestsPerMinute === undefined ? 0 : tokensPerMinute / requestsPerMinute;
    return Math.max(even, (tokensPerMinute / 60) * SECONDS_PER_REQUEST);
  }

  async close(): Promise<void> {
    clearTimeout(this.settling);
    await this.flushing;
    await this.flush();
  }

  private async known(): Promise<KnownLimits> {
    const { db, account, limits } = this.options;
    this.configured ??= configureAccount(db, account, limits);
    try {
      return this.limits ?? (await this.configured);
    } catch (error) {
      this.configured = undefined;
      throw error;
    }
  }

  private admitted(request: GateRequest): Promise<void> {
    return new Promise((resolve, reject) => {
      const { signal } = request;
      const leave = () => {
        this.take(entry);
        this.nap.abort();
        reject(signal?.reason);
      };
      const entry: Waiting = {
        ...request,
        go: () => {
          signal?.removeEventListener('abort', leave);
          resolve();
        },
        fail: (error) => {
          signal?.removeEventListener('abort', leave);
          reject(error);
        },
      };
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener('abort', leave, { once: true });
      this.waiting.get(request.priority)?.push(entry);
      this.nap.abort();
      void this.pump();
    });
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

  private head(): Waiting | undefined {
    for (const priority of PRIORITIES) {
      const [first] = this.waiting.get(priority) ?? [];
      if (first) return first;
    }
    return undefined;
  }

  /** True when it was still there. */
  private take(entry: Waiting): boolean {
    const queue = this.waiting.get(entry.priority) ?? [];
    const at = queue.indexOf(entry);
    if (at >= 0) queue.splice(at, 1);
    return at >= 0;
  }

  private async ask(head: Waiting): Promise<void> {
    const { db, account, price, capPerDay } = this.options;
    const micros = microsOf(head.tokens, price);
    try {
      await this.known();
      const taken = await takeBudget(db, account, {
        tokens: head.tokens,
        burstSeconds: BURST_SECONDS[head.priority],
        micros,
        capMicros: capPerDay === undefined ? undefined : Math.floor(capPerDay * 1e6),
      });
      this.limits = taken;
      if (taken.granted) {
        if (!this.take(head)) return this.settle(head.tokens, 0, undefined, false); // It left meanwhile.
        this.underWay += 1;
        return head.go();
      }
      if (taken.why === 'budget' || taken.waitMs <= PATIENCE_MS) return await this.sleep(taken.waitMs);
      if (this.take(head)) head.fail(resting(taken.why, taken.waitMs, capPerDay));
    } catch (error) {
      if (this.take(head)) head.fail(error);
    }
  }

  /** Until the time is over or somebody came. */
  private async sleep(ms: number): Promise<void> {
    this.nap = new AbortController();
    await sleep(ms, undefined, { signal: this.nap.signal }).catch(() => {});
  }

  private async failed(error: unknown, request: GateRequest): Promise<void> {
    const { db, account, onError } = this.options;
    const refused = error instanceof EmbedError ? error : undefined;
    const rateLimit = refused?.details.rateLimit;
    // A rejected text shows that the provider works.
    const charged = error instanceof NotSent || !mayBeCharged(refused) ? 0 : request.tokens;
    this.settle(request.tokens, charged, rateLimit && { rateLimit }, refused?.failure === 'input_rejected');
    if (refused === undefined || !isOutage(refused)) return;
    if (refused.failure === 'rate_limited') this.concurrency.refused();
    await refuseBudget(db, account, {
      waitMs: refused.details.retryAfterMs,
      limited: refused.failure === 'rate_limited',
      reason: refused.message,
    }).catch(onError);
  }

  /** Puts down what a request was charged for against what was taken for it. */
  private settle(
    taken: number,
    charged: number,
    result: Pick<EmbedResult, 'rateLimit'> | undefined,
    answered: boolean,
  ): void {
    const { price } = this.options;
    this.owed.tokens += charged - taken;
    this.owed.micros += microsOf(charged, price) - microsOf(taken, price);
    this.owed.answered ||= answered;
    this.rateLimit = result?.rateLimit ?? this.rateLimit;
    this.settling ??= setTimeout(() => {
      this.flushing = this.flush().catch(this.options.onError);
    }, SETTLE_MS);
  }

  private async flush(): Promise<void> {
    this.settling = undefined;
    const owed = this.owed;
    if (owed.tokens === 0 && owed.micros === 0 && !owed.answered) return;
    this.owed = { tokens: 0, micros: 0, answered: false };
    try {
      await settleBudget(this.options.db, this.options.account, { ...owed, rateLimit: this.rateLimit });
    } catch (error) {
      this.owed.tokens += owed.tokens;
      this.owed.micros += owed.micros;
      this.owed.answered ||= owed.answered;
      throw error;
    }
  }
}

function isOutage({ failure }: EmbedError): boolean {
  return failure !== 'input_rejected' && !NEEDS_PERSON.has(failure);
}

/** An answer that is no good, and one that never came, may have been charged for. */
function mayBeCharged(refused: EmbedError | undefined): boolean {
  if (refused === undefined || refused.failure === 'bad_response') return true;
  return refused.failure === 'unavailable' && refused.details.status === undefined;
}

function resting(why: string, waitMs: number, capPerDay: number | undefined): EmbedError {
  const retryAfterMs = Math.ceil(waitMs);
  if (why !== 'cap') return new EmbedError('unavailable', why, { retryAfterMs });
  return new EmbedError(
    'spend_cap',
    `the spend cap of $${capPerDay} a day is reached: raise spend.perDay and run \`freshvec resume SOURCE\`, or wait for the next day (UTC)`,
    { retryAfterMs },
  );
}
