import type { Database } from '../db/database.js';
import { type AlsoCharged, NotSent } from '../embed/gate.js';
import { EmbedError, type EmbedResult } from '../embed/port.js';
import { type ConfiguredLimits, refuseBudget, settleBudget } from './account.js';
import { Ledger } from './ledger.js';
import { type Asked, elsewhereOf, type Grant, isOutage, mayBeCharged } from './request.js';
import { nanosOf } from './spend.js';

export type Send = (also: AlsoCharged) => Promise<EmbedResult>;

/** What a request came to; `told`: what that says of the provider's health. */
interface Outcome {
  readonly tokens: number;
  readonly texts: number;
  readonly told: 'works' | 'fails' | 'nothing';
  readonly rateLimit?: EmbedResult['rateLimit'];
}

const UNUSED: Outcome = { tokens: 0, texts: 0, told: 'nothing' };

export interface SenderOptions {
  readonly db: Database;
  readonly account: string;
  readonly limits: ConfiguredLimits;
  readonly onError: (error: unknown) => void;
  /** Figures were written: what was reserved came back. */
  readonly onWritten: () => void;
  /** The provider has had enough. */
  readonly onLimited: () => void;
  /** This process may not write, so its queries are not charged. */
  readonly isBlind: () => boolean;
}

/** Sends what an account's gate has let through, and puts down what came of it against what was taken for it. */
export class Sender {
  private readonly ledger: Ledger;
  /** Requests whose grant was not told yet. */
  private readonly late = new Set<Promise<void>>();

  constructor(private readonly options: SenderOptions) {
    const { db, account, limits, onWritten, onError } = options;
    this.ledger = new Ledger({
      write: (settlement) => settleBudget(db, account, limits, settlement),
      onWritten,
      onError,
    });
  }

  async flush(): Promise<void> {
    await Promise.all(this.late);
    await this.ledger.flush();
  }

  async close(): Promise<void> {
    await Promise.all(this.late);
    await this.ledger.close();
  }

  /** Throws what `send` throws, and the request's own reason where it was given up meanwhile. */
  async send(asked: Asked, grant: Promise<Grant>, send: Send): Promise<EmbedResult> {
    let also = 0;
    if (asked.signal?.aborted) {
      this.unused(asked, grant);
      throw asked.signal.reason;
    }
    try {
      const result = await send((tokens) => {
        also += tokens;
      });
      this.settle(asked, grant, { ...result, tokens: result.tokens + also, texts: asked.texts, told: 'works' });
      return result;
    } catch (error) {
      await this.failed(asked, grant, error, also);
      throw error;
    }
  }

  /** Gives a grant back whose request is not wanted any more. */
  unused(asked: Asked, grant: Promise<Grant>): void {
    this.settle(asked, grant, UNUSED);
  }

  private async failed(asked: Asked, grant: Promise<Grant>, error: unknown, also: number): Promise<void> {
    const { db, account, onError, onLimited } = this.options;
    const refused = error instanceof EmbedError ? error : undefined;
    const outage = refused !== undefined && isOutage(refused);
    // A rejected text shows that the provider works.
    const told = outage ? 'fails' : refused?.failure === 'input_rejected' ? 'works' : 'nothing';
    const charged = error instanceof NotSent || !mayBeCharged(refused) ? 0 : asked.tokens;
    this.settle(asked, grant, { tokens: charged + also, texts: 0, told, rateLimit: refused?.details.rateLimit });
    if (!outage) return;
    const limited = refused.failure === 'rate_limited';
    if (limited) onLimited();
    const { retryAfterMs: waitMs } = refused.details;
    await refuseBudget(db, account, { waitMs, limited, reason: refused.message }).catch(onError);
  }

  private settle({ purse, priority }: Asked, grant: Promise<Grant>, outcome: Outcome): void {
    const { source, spaceId, purpose, fingerprint, price } = purse;
    const { tokens, texts, told, rateLimit } = outcome;
    const about = { source: source ?? null, space: spaceId ?? null, purpose, fingerprint };
    const down = grant.then((taken) => {
      const { period, reserved, probe } = taken;
      this.late.delete(down);
      if (priority === 'query' && this.options.isBlind()) return;
      const spent = { period, ...about, texts, tokens, nanos: nanosOf(tokens, price), reserved };
      this.ledger.add({
        tokens: tokens - taken.tokens,
        spent: [spent],
        rateLimit,
        elsewhere: elsewhereOf(taken, rateLimit),
        answered: told === 'works',
        // One that fails begins a pause, and the next probe is somebody else's.
        probeIsOver: probe && told === 'nothing',
      });
    });
    this.late.add(down);
  }
}
