import { setImmediate as nextTurn } from 'node:timers/promises';
import type { PriceSettings } from '../budget/prices.js';
import { pricePerMillionTokens } from '../budget/prices.js';
import type { LabelledQuery } from '../catalog/migration.js';
import { liveSpace, type Metric, type VectorType } from '../catalog/space.js';
import type { EmbeddingModel } from '../embed/port.js';
import { type Collection, collectionOf, nearest } from './compare/exact.js';
import { type Gathered, gather, impossible } from './compare/gather.js';
import { estimateStorage } from './compare/storage.js';
import { embedSample } from './eval/embed.js';
import { bootstrap, type Interval, quantile, type Scores, scoreAnswers } from './eval/measures.js';
import { type EmbedContext, K } from './gates/context.js';

export interface CompareContext extends EmbedContext {
  readonly prices: PriceSettings;
}

export interface CompareOptions {
  /** Specs, two or more; the first is what the others are compared with. */
  readonly models: readonly string[];
  /** Without them, queries are derived from the sample. */
  readonly queries?: readonly LabelledQuery[] | undefined;
  /** Rows that are embedded with each model; the rows that labelled queries name come on top. */
  readonly sampleRows: number;
}

/** What a comparison would send to one model. */
export interface CompareCost {
  readonly model: string;
  readonly texts: number;
  /** As the model counts or estimates them. */
  readonly tokens: number;
  /** USD; undefined where nobody knows the price, 0 for a model that runs here. */
  readonly usd: number | undefined;
}

export interface ModelComparison {
  readonly model: string;
  readonly fingerprint: string;
  readonly dimensions: number;
  readonly recall: Interval;
  readonly ndcg: Interval;
  /** Less those of the first model, with their paired intervals; undefined of the first. */
  readonly against: { readonly recall: Interval; readonly ndcg: Interval } | undefined;
  readonly latency: {
    /** Ms in the model for each text of the sample, sent in full requests. */
    readonly perText: number;
    /** Ms of a query sent by itself; null where there were none. */
    readonly queryP50: number | null;
    readonly queryP95: number | null;
  };
  /** Texts that the model rejects. */
  readonly rejected: number;
  readonly tokensPerText: number;
  /** USD; undefined where nobody knows the price. */
  readonly usdPerMillionRows: number | undefined;
  readonly storage: readonly {
    readonly type: VectorType;
    readonly vectorBytesPerMillionRows: number;
    /** Undefined where pgvector cannot index so many dimensions of this type. */
    readonly indexBytesPerMillionRows: number | undefined;
  }[];
}

export interface Comparison {
  readonly source: string;
  readonly k: number;
  readonly metric: Metric;
  /** Rows that were searched among. */
  readonly rows: number;
  readonly queries: number;
  /** How the queries came about. */
  readonly how: string;
  /** Keys that labelled queries name and the source does not have. */
  readonly unknownKeys: readonly string[];
  /** Keys of rows that no search of their query finds: the filter leaves them out, they have no text, or another tenant. */
  readonly unfindableKeys: readonly string[];
  readonly models: readonly ModelComparison[];
}

/** So many queries are sent one by one for their latency. */
const TIMED_QUERIES = 20;
const MILLION = 1_000_000;

/** What `compareModels` would send to each model and what that would cost: to ask before. Sends nothing. */
export async function estimateComparison(context: CompareContext, options: CompareOptions): Promise<CompareCost[]> {
  const models = await openModels(context, options);
  const { texts, queries } = await gather(context.db, context.source, options.queries ?? [], options.sampleRows);
  return models.map((model) => {
    const sent = [...new Set(texts.map(({ text }) => text)), ...textsOf(queries)];
    const tokens = sent.reduce((sum, text) => sum + model.countTokens(text), 0);
    const price = priceOf(context, model);
    return {
      model: model.spec,
      texts: sent.length,
      tokens,
      usd: price === undefined ? undefined : (tokens * price) / MILLION,
    };
  });
}

/**
 * Embeds a sample of the source's rows with each model, in memory, and compares what they find of labelled or derived
 * queries among those rows, exactly. Of the database only what was charged is written.
 *
 * Scores are higher than they would be on the whole source, where more rows compete; their order is what counts. Throws
 * FreshvecError `compare_impossible`, and EmbedError where a provider does not answer.
 */
export async function compareModels(context: CompareContext, options: CompareOptions): Promise<Comparison> {
  const models = await openModels(context, options);
  const { db, source } = context;
  const { texts, queries, ...about } = await gather(db, source, options.queries ?? [], options.sampleRows);
  const metric = (await liveSpace(db, source.id))?.space.metric ?? 'cosine';
  const scored = [];
  for (const model of models) scored.push(await measure(context, model, texts, queries, metric));
  // A text that one model rejects is missing from its answers only: that is what it would cost.
  const [first] = scored;
  return {
    source: source.name,
    k: K,
    metric,
    rows: texts.length,
    queries: queries.length,
    ...about,
    models: scored.map(({ scores, ...measured }) => ({
      ...measured,
      recall: bootstrap(scores.map(({ recall }) => recall)),
      ndcg: bootstrap(scores.map(({ ndcg }) => ndcg)),
      against: first && first.model !== measured.model ? differences(scores, first.scores) : undefined,
    })),
  };
}

async function openModels({ models, source }: CompareContext, options: CompareOptions): Promise<EmbeddingModel[]> {
  const specs = [...new Set(options.models)];
  if (specs.length < 2)
    throw impossible(source.name, 'name two models or more, such as --models static/mini@128,static/mini@256');
  const opened: EmbeddingModel[] = [];
  for (const spec of specs) opened.push(await models.get(spec));
  return opened;
}

async function measure(
  context: CompareContext,
  opened: EmbeddingModel,
  texts: Gathered['texts'],
  queries: Gathered['queries'],
  metric: Metric,
) {
  const { model, times } = timed(opened);
  const documents = await embedSample(
    context,
    model,
    texts.map(({ text }) => text),
    'document',
  );
  const perText =
    times.splice(0).reduce((sum, ms) => sum + ms, 0) / Math.max(1, new Set(texts.map(({ text }) => text)).size);
  const sent = textsOf(queries);
  const answers: (Float32Array | undefined)[] = [];
  for (const query of sent.slice(0, TIMED_QUERIES))
    answers.push(...(await embedSample(context, model, [query], 'query')).vectors);
  const queryMs = times.splice(0).sort((a, b) => a - b);
  answers.push(...(await embedSample(context, model, sent.slice(TIMED_QUERIES), 'query')).vectors);
  const asked = new Map(sent.map((query, i) => [query, answers[i]]));

  const kept = texts.flatMap(({ key, tenant }, i) => {
    const vector = documents.vectors[i];
    return vector ? [{ key, tenant, vector }] : [];
  });
  const collections = new Map<string | undefined, Collection>();
  for (const tenant of new Set(queries.map((query) => query.tenant))) {
    collections.set(tenant, collectionOf(kept.filter((row) => tenant === undefined || row.tenant === tenant)));
  }
  const scores: Scores[] = [];
  for (const { query, tenant, relevant } of queries) {
    context.signal.throwIfAborted();
    const [vector, collection] = [asked.get(query), collections.get(tenant)];
    const found = vector && collection ? nearest(collection, vector, K, metric) : [];
    scores.push(scoreAnswers(found, relevant, K));
    await nextTurn(); // A query over a large sample takes tens of ms.
  }
  const tokensPerText = texts.reduce((sum, { text }) => sum + model.countTokens(text), 0) / Math.max(1, texts.length);
  const price = priceOf(context, model);
  return {
    model: model.spec,
    fingerprint: model.fingerprint,
    dimensions: model.dimensions,
    scores,
    latency: {
      perText,
      queryP50: queryMs.length === 0 ? null : quantile(queryMs, 0.5),
      queryP95: queryMs.length === 0 ? null : quantile(queryMs, 0.95),
    },
    rejected: texts.length - kept.length + answers.filter((vector) => vector === undefined).length,
    tokensPerText,
    // Tokens of a million rows in millions of tokens: the same figure as the tokens of one row.
    usdPerMillionRows: price === undefined ? undefined : tokensPerText * price,
    storage: storageOf(model.dimensions),
  };
}

/** Two tenants may ask the same. */
function textsOf(queries: Gathered['queries']): string[] {
  return [...new Set(queries.map(({ query }) => query))];
}

function storageOf(dimensions: number): ModelComparison['storage'] {
  return (['vector', 'halfvec'] as const).map((type) => {
    const { vectorBytes, indexBytes } = estimateStorage(type, dimensions, MILLION);
    return { type, vectorBytesPerMillionRows: vectorBytes, indexBytesPerMillionRows: indexBytes };
  });
}

function differences(scores: readonly Scores[], first: readonly Scores[]): { recall: Interval; ndcg: Interval } {
  const of = (read: (score: Scores) => number) =>
    bootstrap(scores.map((score, i) => read(score) - read(first[i] ?? { recall: 0, ndcg: 0 })));
  return { recall: of(({ recall }) => recall), ndcg: of(({ ndcg }) => ndcg) };
}

/** The same model, with the ms of each request that it answered. */
function timed(model: EmbeddingModel): { model: EmbeddingModel; times: number[] } {
  const times: number[] = [];
  return {
    times,
    model: {
      ...model,
      async embed(texts, options) {
        const began = performance.now();
        const result = await model.embed(texts, options);
        times.push(performance.now() - began);
        return result;
      },
    },
  };
}

/** USD per million tokens. A model that the app made itself may be of any provider: its price is what is configured. */
function priceOf({ prices }: CompareContext, { spec }: EmbeddingModel): number | undefined {
  return pricePerMillionTokens(spec, prices);
}
