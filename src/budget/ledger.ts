import type { RateLimitState } from '../embed/port.js';
import type { Settlement } from './account.js';
import type { Spent } from './spend.js';

/** Figures are gathered for so long, in ms, and after a failure tried again so soon. */
const WRITE_MS = 200;
const AGAIN_MS = 1000;

export interface LedgerOptions {
  readonly write: (settlement: Settlement) => Promise<void>;
  readonly onWritten?: (() => void) | undefined;
  readonly onError: (error: unknown) => void;
}

/** Gathers what became of requests, and writes it down a few times a second. Nothing is lost but by a crash. */
export class Ledger {
  private tokens = 0;
  private answered = false;
  private probeIsOver = false;
  private rateLimit: RateLimitState | undefined;
  /** By the request that was granted last. */
  private elsewhere: Settlement['elsewhere'];
  private spent = new Map<string, Spent>();
  private timer: NodeJS.Timeout | undefined;
  /** Writes go one after the other. */
  private writing: Promise<void> = Promise.resolve();
  private closed = false;

  constructor(private readonly options: LedgerOptions) {}

  add(part: Settlement): void {
    this.gather(part);
    this.timer ??= setTimeout(() => void this.flush().catch(this.options.onError), WRITE_MS);
  }

  /** Writes what is there; what cannot be written is kept, and tried again. */
  flush(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    const turn = this.writing.then(() => this.write());
    this.writing = turn.catch(() => {});
    return turn;
  }

  close(): Promise<void> {
    this.closed = true;
    return this.flush();
  }

  private async write(): Promise<void> {
    const { tokens, answered, probeIsOver, rateLimit, elsewhere } = this;
    const spent = [...this.spent.values()];
    if (tokens === 0 && !answered && !probeIsOver && spent.length === 0) return;
    this.tokens = 0;
    this.answered = false;
    this.probeIsOver = false;
    this.elsewhere = undefined;
    this.spent = new Map();
    const settlement = { tokens, answered, probeIsOver, spent };
    try {
      await this.options.write({ ...settlement, rateLimit, elsewhere });
    } catch (error) {
      this.gather(settlement);
      if (!this.closed) {
        this.timer ??= setTimeout(() => void this.flush().catch(this.options.onError), AGAIN_MS).unref();
      }
      throw error;
    }
    this.options.onWritten?.();
  }

  private gather({ tokens, answered, probeIsOver = false, rateLimit, elsewhere, spent }: Settlement): void {
    this.tokens += tokens;
    this.answered ||= answered;
    this.probeIsOver ||= probeIsOver;
    this.rateLimit = rateLimit ?? this.rateLimit;
    if (elsewhere && elsewhere.at > (this.elsewhere?.at ?? 0)) this.elsewhere = elsewhere;
    for (const one of spent) {
      const { texts, tokens, nanos, reserved, ...about } = one;
      if (tokens === 0 && nanos === 0 && reserved === 0) continue;
      const key = JSON.stringify(about);
      const before = this.spent.get(key);
      this.spent.set(key, {
        ...about,
        texts: texts + (before?.texts ?? 0),
        tokens: tokens + (before?.tokens ?? 0),
        nanos: nanos + (before?.nanos ?? 0),
        reserved: reserved + (before?.reserved ?? 0),
      });
    }
  }
}
