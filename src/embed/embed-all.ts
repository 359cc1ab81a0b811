import { planBatches } from './batch.js';
import { type AlsoCharged, type Gate, NotSent, openGate, type Priority } from './gate.js';
import {
  type EmbeddingModel,
  EmbedError,
  type EmbedFailure,
  type EmbedLimits,
  type EmbedPurpose,
  type EmbedResult,
  mayBeOfOneText,
  NEEDS_PERSON,
  type TooLong,
} from './port.js';
import { mostTokensOf } from './tokens.js';

/** What became of one text. Only `rejected` is the text's own fault (law 7). */
export type TextOutcome =
  /** Length `dimensions`; equal texts share one array. */
  | { readonly vector: Float32Array }
  /**
   * Why the provider will not take this text, however often it is sent. `unsure`: it did not say so, but failed at this
   * text twice and took a harmless one each time: after a few attempts that is sure.
   */
  | { readonly rejected: string; readonly tooLong?: TooLong | undefined; readonly unsure?: true }
  /** Not embedded, through no fault of its own: wait so many ms (0 where the provider names no time) and try again. */
  | { readonly delayed: number; readonly failure: EmbedFailure };

export interface EmbedAllResult {
  /** One per text, in the order of the texts. */
  readonly outcomes: TextOutcome[];
  /** Tokens that the provider charged. */
  readonly tokens: number;
}

export interface EmbedAllOptions {
  readonly purpose: EmbedPurpose;
  readonly signal?: AbortSignal | undefined;
  /** Decides when each request is sent, and how many at once; without one, one after the other. */
  readonly gate?: Gate | undefined;
  readonly priority?: Priority | undefined;
  /** In place of the model's, where its counts are known already. */
  readonly countTokens?: ((text: string) => number) | undefined;
  /** Texts that failed before, which go into requests of their own: the others are not bisected, and paid for, with them. */
  readonly apart?: ReadonlySet<string> | undefined;
}

/** A text that every model takes: it tells "this text is bad" from "everything is refused". */
const CONTROL_TEXT = 'The quick brown fox jumps over the lazy dog.';

/**
 * Embeds any number of texts: equal ones once, in requests within the model's limits. A request that the provider rejects,
 * or fails at while it takes a harmless text, is bisected until the bad text stands alone; any other failure of the
 * provider delays the texts of that request and of all that were not sent yet, and what was already paid for is kept.
 *
 * Throws an EmbedError that needs a person, and what is no EmbedError, when nothing was embedded yet (afterwards they
 * delay like an outage, so that no paid vector is lost; the next call throws), `configuration` also when even a harmless
 * control text is rejected, and the signal's reason when aborted.
 */
export async function embedAll(
  model: EmbeddingModel,
  texts: readonly string[],
  options: EmbedAllOptions,
): Promise<EmbedAllResult> {
  const unique = [...new Set(texts)];
  const lengths = unique.map(options.countTokens ?? ((text) => model.countTokens(text)));
  const gate = options.gate ?? openGate();
  const run = new Run(model, gate, options);
  const maxTokensPerRequest = Math.min(model.limits.maxTokensPerRequest, await gate.maxTokensPerRequest());
  const items = unique.map((text, i): Item => ({ text, tokens: lengths[i] ?? 0 }));
  const apart = items.filter(({ text }) => options.apart?.has(text));
  const others = items.filter(({ text }) => !options.apart?.has(text));
  const limits = { ...model.limits, maxTokensPerRequest };
  await run.all([others, apart].flatMap((some) => requestsOf(some, limits)));
  return { outcomes: texts.map((text) => run.outcomeOf(text)), tokens: run.tokens };
}

interface Item {
  readonly text: string;
  readonly tokens: number;
}

function requestsOf(items: readonly Item[], limits: EmbedLimits): Item[][] {
  const batches = planBatches(
    items.map(({ tokens }) => tokens),
    limits,
  );
  return batches.map((batch) => batch.flatMap((i) => items[i] ?? []));
}

/** One call of embedAll: what is known so far of each text. */
class Run {
  tokens = 0;
  private readonly outcomes = new Map<string, TextOutcome>();
  /** How many requests this provider has taken during this run. */
  private taken = 0;
  /** The harmless text, while it is being asked for. */
  private control: Promise<unknown> | undefined;
  private stop: EmbedError | undefined;
  /** Nothing more is sent, and what queues leaves the line: for `stop`, or what is no failure of the provider's. */
  private readonly halt = new AbortController();
  /** That, or the caller gave up. */
  private readonly ended: AbortSignal;

  constructor(
    private readonly model: EmbeddingModel,
    private readonly gate: Gate,
    private readonly options: EmbedAllOptions,
  ) {
    const { signal } = options;
    this.ended = signal === undefined ? this.halt.signal : AbortSignal.any([signal, this.halt.signal]);
  }

  outcomeOf(text: string): TextOutcome {
    return this.outcomes.get(text) ?? { delayed: 0, failure: 'unavailable' };
  }

  async all(batches: readonly (readonly Item[])[]): Promise<void> {
    const ended = await Promise.allSettled(batches.map((batch) => this.embed(batch)));
    this.options.signal?.throwIfAborted();
    // What was paid for is kept; whatever else went wrong, the next call meets it again.
    for (const end of ended) if (end.status === 'rejected' && !this.hasVectors()) throw end.reason;
    if (this.stop && NEEDS_PERSON.has(this.stop.failure) && !this.hasVectors()) throw this.stop;
  }

  /**
   * Every text of the batch has an outcome in the end, unless it throws what is no EmbedError. `again`: the provider failed
   * at this one text before, which may have been chance.
   */
  private async embed(batch: readonly Item[], again = false): Promise<void> {
    try {
      const vectors = await this.send(batch);
      for (const [i, { text }] of batch.entries()) {
        const vector = vectors[i];
        if (vector) this.outcomes.set(text, { vector });
      }
    } catch (error) {
      if (!(error instanceof EmbedError)) {
        this.halt.abort(error);
        throw error;
      }
      if (this.stop) {
        const { failure, details } = this.stop;
        // What a person must mend, the next call says at once: it has no vectors to keep.
        const delayed = NEEDS_PERSON.has(failure) ? 0 : (details.retryAfterMs ?? 0);
        for (const { text } of batch) this.outcomes.set(text, { delayed, failure });
        return;
      }
      const [only] = batch;
      if (only && batch.length === 1) {
        const { tooLong, unsure } = error.details;
        if (unsure && !again) return this.embed(batch, true);
        this.outcomes.set(only.text, {
          rejected: error.message,
          ...(tooLong && { tooLong }),
          ...(unsure && { unsure }),
        });
        return;
      }
      const middle = batch.length >> 1;
      await Promise.all([this.embed(batch.slice(0, middle)), this.embed(batch.slice(middle))]);
    }
  }

  private async send(batch: readonly Item[]): Promise<Float32Array[]> {
    const { priority = 'interactive' } = this.options;
    const tokens = batch.reduce((sum, item) => sum + item.tokens, 0);
    const mostTokens = batch.reduce((sum, item) => sum + mostTokensOf(this.model, item.text, item.tokens), 0);
    const ask = { tokens, mostTokens, texts: batch.length, priority, signal: this.ended };
    const request = async (also: AlsoCharged) => {
      const takenBefore = this.taken;
      try {
        return await this.request(batch.map(({ text }) => text));
      } catch (error) {
        if (error instanceof NotSent) throw error;
        // Of many it is found out with the halves; what one text is blamed for must be true of it now.
        const takes = this.taken > (batch.length === 1 ? takenBefore : 0);
        throw await this.judge(error, { tokens, takes }, also);
      }
    };
    // What the gate itself throws stops the rest as well.
    const { vectors } = await this.gate.run(ask, request).catch((error) => {
      throw this.stopFor(error instanceof NotSent ? error.cause : error);
    });
    return vectors;
  }

  private async request(texts: readonly string[]): Promise<EmbedResult> {
    const { signal, purpose } = this.options;
    if (this.ended.aborted) throw new NotSent(this.ended.reason);
    const result = await this.model.embed(texts, signal === undefined ? { purpose } : { purpose, signal });
    this.tokens += result.tokens;
    this.taken += 1;
    return result;
  }

  /**
   * Who is to blame. Bisecting is only worth while, and blame only fair, if the provider takes any text at all: a
   * harmless one is tried before, in the same turn. `tokens`: of the request; `takes`: the provider is known to take texts.
   */
  private async judge(
    error: unknown,
    { tokens, takes }: { readonly tokens: number; readonly takes: boolean },
    also: AlsoCharged,
  ): Promise<unknown> {
    if (!(error instanceof EmbedError)) return error;
    // Of one that took texts a moment ago and fails now it must be asked anew; of one that says that this text is too long,
    // or has taken others meanwhile, it need not.
    const failed = mayBeOfOneText(error);
    if (!failed && (error.failure !== 'input_rejected' || takes || error.details.tooLong)) return this.stopFor(error);
    const refusal = await this.askControl(also);
    if (refusal === undefined) {
      if (!failed) return error;
      // A rejected text costs nothing, an answer that is no good does.
      if (error.failure === 'bad_response') also(tokens);
      return new EmbedError('input_rejected', error.message, { ...error.details, unsure: true });
    }
    if (!(refusal instanceof EmbedError) || refusal.failure !== 'input_rejected') return this.stopFor(refusal);
    if (failed) return this.stopFor(error);
    const what = `${this.model.spec} rejects every text: ${refusal.message}`;
    return this.stopFor(new EmbedError('configuration', what, refusal.details));
  }

  /** Resolves to why the harmless text was not embedded either; undefined where it was. */
  private askControl(also: AlsoCharged): Promise<unknown> {
    this.control ??= this.request([CONTROL_TEXT])
      .then(
        ({ tokens }) => void also(tokens),
        (refusal) => (refusal instanceof NotSent ? refusal.cause : refusal),
      )
      .finally(() => {
        this.control = undefined;
      });
    return this.control;
  }

  /** Notes a failure that is nobody's text's fault, before anything else is sent. */
  private stopFor(error: unknown): unknown {
    if (error instanceof EmbedError && error.failure !== 'input_rejected') {
      this.stop ??= error;
      this.halt.abort(error);
    }
    return error;
  }

  private hasVectors(): boolean {
    for (const outcome of this.outcomes.values()) if ('vector' in outcome) return true;
    return false;
  }
}
