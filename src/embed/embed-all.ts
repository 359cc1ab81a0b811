import { planBatches } from './batch.js';
import { type EmbeddingModel, EmbedError, type EmbedFailure, type EmbedPurpose } from './port.js';

/** What became of one text. Only `rejected` is the text's own fault (law 7). */
export type TextOutcome =
  /** Length `dimensions`; equal texts share one array. */
  | { readonly vector: Float32Array }
  /** Why the provider will not take this text, however often it is sent. */
  | { readonly rejected: string }
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
}

/** A text that every model takes: it tells "this text is bad" from "everything is refused". */
const CONTROL_TEXT = 'The quick brown fox jumps over the lazy dog.';

/**
 * Embeds any number of texts: equal ones once, in requests within the model's limits, one after the other. A request
 * that the provider rejects is bisected until the bad text stands alone; a failure of the provider delays the texts of
 * that request and of all that come after, and what was already paid for is kept.
 *
 * Throws EmbedError `unauthorised` or `configuration` when nothing was embedded yet (afterwards they delay like an
 * outage, so that no paid vector is lost; the next call throws), `configuration` also when even a harmless control text
 * is rejected, and the signal's reason when aborted.
 */
export async function embedAll(
  model: EmbeddingModel,
  texts: readonly string[],
  options: EmbedAllOptions,
): Promise<EmbedAllResult> {
  const unique = [...new Set(texts)];
  const run = new Run(model, unique, options);
  await run.all(
    planBatches(
      unique.map((text) => model.countTokens(text)),
      model.limits,
    ),
  );
  return { outcomes: texts.map((text) => run.outcomeOf(text)), tokens: run.tokens };
}

/** One call of embedAll: what is known so far of each unique text. */
class Run {
  tokens = 0;
  /** Whether this provider has taken any text during this run. */
  private takesTexts = false;
  private readonly outcomes = new Map<string, TextOutcome>();

  constructor(
    private readonly model: EmbeddingModel,
    private readonly unique: readonly string[],
    private readonly options: EmbedAllOptions,
  ) {}

  outcomeOf(text: string): TextOutcome {
    const outcome = this.outcomes.get(text);
    if (outcome === undefined) throw new Error('a text was left without an outcome');
    return outcome;
  }

  /** Works off the batches (indices into `unique`), first in, first out; halves of a rejected one come next. */
  async all(batches: readonly number[][]): Promise<void> {
    const open = batches.map((batch) => batch.map((index) => this.unique[index] as string)).reverse();
    for (let batch = open.pop(); batch !== undefined; batch = open.pop()) {
      const failure = await this.attempt(batch);
      if (failure === undefined) continue;
      if (failure.failure !== 'input_rejected') return this.delay([batch, ...open], failure);
      if (batch.length === 1) {
        this.outcomes.set(batch[0] as string, { rejected: failure.message });
        continue;
      }
      const middle = batch.length >> 1;
      open.push(batch.slice(middle), batch.slice(0, middle));
    }
  }

  /** Embeds a batch and keeps its vectors, or returns why not. */
  private async attempt(batch: readonly string[]): Promise<EmbedError | undefined> {
    try {
      const vectors = await this.send(batch);
      batch.forEach((text, i) => {
        this.outcomes.set(text, { vector: vectors[i] as Float32Array });
      });
      return undefined;
    } catch (error) {
      const failure = this.judge(error);
      if (failure.failure !== 'input_rejected' || this.takesTexts) return failure;
      return this.tryControlText(failure);
    }
  }

  /** Bisecting is only worth while, and blame only fair, if the provider takes any text at all. */
  private async tryControlText(rejection: EmbedError): Promise<EmbedError> {
    try {
      await this.send([CONTROL_TEXT]);
      return rejection;
    } catch (error) {
      const failure = this.judge(error);
      if (failure.failure !== 'input_rejected') return failure;
      throw new EmbedError(
        'configuration',
        `${this.model.spec} rejects every text: ${failure.message}`,
        failure.details,
      );
    }
  }

  private async send(batch: readonly string[]): Promise<Float32Array[]> {
    const { signal, purpose } = this.options;
    signal?.throwIfAborted();
    const { vectors, tokens } = await this.model.embed(batch, signal === undefined ? { purpose } : { purpose, signal });
    this.tokens += tokens;
    this.takesTexts = true;
    return vectors;
  }

  /** Throws what must stop the run: the abort, the unexpected, and what a person must mend (if nothing was paid yet). */
  private judge(error: unknown): EmbedError {
    this.options.signal?.throwIfAborted();
    if (!(error instanceof EmbedError)) throw error;
    const needsPerson = error.failure === 'unauthorised' || error.failure === 'configuration';
    if (needsPerson && !this.hasVectors()) throw error;
    return error;
  }

  private hasVectors(): boolean {
    for (const outcome of this.outcomes.values()) if ('vector' in outcome) return true;
    return false;
  }

  private delay(batches: readonly (readonly string[])[], failure: EmbedError): void {
    const outcome: TextOutcome = { delayed: failure.details.retryAfterMs ?? 0, failure: failure.failure };
    for (const text of batches.flat()) this.outcomes.set(text, outcome);
  }
}
