import { type KnownLimits, knownLimits } from '../../budget/account.js';
import { mostTokensPerRequest } from '../../budget/request-size.js';
import { indexCost } from '../../store/index-state.js';
import type { PlanFact } from '../definition.js';
import type { Findings, PlanContext } from './context.js';
import { backfillHotShare } from './hot.js';
import { buildMemory } from './memory.js';

/**
 * Rows that workers (3 slots) claim, read, write and settle in a second with a model that takes no time, on 2 busy cores:
 * 2,300 to 4,500 at 256 dimensions, 1,600 at 1536, where bytes bound them.
 */
const ROWS_PER_SECOND = 3_000;
const BYTES_PER_SECOND = 10_000_000;
/** The same of rows that move to another page of a table with a vector index: 8,000 × 768 in 10.8 s (DESIGN, section 3). */
const ROWS_PER_SECOND_INDEXED = 740;
/** One process adds a row to a graph of 10,000 in so many ms, and so many more for each dimension (m 16, ef 64). */
const BUILD_MS = 1;
const BUILD_MS_PER_DIMENSION = 0.0003;
/** How much slower a build is once the graph is out of memory: twice at 256 dimensions, 13 times at 1536. */
const SPILLED_DIMENSIONS = 120;
const SAMPLE_TEXTS = 16;

/**
 * How long the move takes when the database feels nothing of it: providers and writes go on at once, a part of the time
 * where searches go by an index of the live vectors, and the index comes after.
 */
export async function measureTime(context: PlanContext): Promise<Findings> {
  const { rows, to, table, sizes } = context;
  const provider = await providerTime(context);
  const indexed = to.store === 'column' && table.vectorIndexes.length > 0;
  const staying = Math.min(ROWS_PER_SECOND, BYTES_PER_SECOND / sizes.vector);
  const moving = indexed ? 1 - backfillHotShare(context, table.fillfactor) : 0;
  const rate = 1 / (moving / ROWS_PER_SECOND_INDEXED + (1 - moving) / staying);
  const write = rows / rate;
  const build = await buildTime(context);
  const share = await shareOf(context);
  const pace =
    share === 1
      ? 'unthrottled'
      : `at ${Math.round(100 * share)} % of the time, since searches go by the index of the live vectors (throttle.indexedShare), and otherwise unthrottled`;
  const facts: PlanFact[] = [
    {
      name: 'seconds',
      value: Math.max(provider.waits, Math.max(provider.works, write) / share) + build,
      unit: 's',
      note: `${pace}: the slower of provider and writes and then the index${provider.fact.value === null ? '; WITHOUT the provider, whose speed is not known' : ''}`,
    },
    provider.fact,
    {
      name: 'writeSeconds',
      value: write,
      unit: 's',
      note: `at ${Math.round(rate)} rows a second${moving > 0 ? `, since ${Math.round(100 * moving)} % of the rows go into the index that is on the table once more` : ''}, as measured on a small machine`,
    },
    {
      name: 'buildSeconds',
      value: build,
      unit: 's',
      note: 'to build the index, from measured builds on a small machine',
    },
  ];
  return { facts, notes: provider.notes };
}

/** The most of the time that the backfill works, whatever else the throttle finds. */
async function shareOf({ db, source, from, settings }: PlanContext): Promise<number> {
  const { indexedShare = null } = settings.throttle ?? {};
  return indexedShare !== null && (await indexCost(db, source, from)) === 'each' ? indexedShare : 1;
}

async function buildTime(context: PlanContext): Promise<number> {
  const { to, rows, sizes } = context;
  if (sizes.index === 0 || rows === 0) return 0;
  const { bytes, workers } = await buildMemory(context);
  const inMemory = Math.min(1, bytes / Math.max(1, sizes.graph));
  const slower = inMemory + (1 - inMemory) * (1 + to.dimensions / SPILLED_DIMENSIONS);
  const deeper = Math.max(0.5, Math.log2(rows) / Math.log2(10_000));
  const wider = (to.index.efConstruction / 64) * Math.sqrt(to.index.m / 16);
  const each = (BUILD_MS + BUILD_MS_PER_DIMENSION * to.dimensions) * deeper * wider * slower;
  return (rows * each) / 1000 / (workers + 1);
}

interface Known {
  readonly fact: PlanFact;
  readonly notes: readonly string[];
  /** Seconds of work, 0 where it is not known; and until the day's money is there for the last row, whatever the pace. */
  readonly works: number;
  readonly waits: number;
}

async function providerTime(context: PlanContext): Promise<Known> {
  const { copies, tokens, settings } = context;
  const rows = context.rows - context.adopts;
  const is = (value: number | null, note: string, notes: string[] = [], waits = 0): Known => ({
    fact: { name: 'providerSeconds', value: value === null ? null : Math.max(value, waits), unit: 's', note },
    notes,
    works: value ?? 0,
    waits,
  });
  if (copies) return is(0, 'vectors are copied from the live space');
  if (rows === 0) return is(0, 'there is nothing to embed');
  const spend = daysOfSpend(context);
  if (settings.account === undefined) {
    const perSecond = settings.embed && (await measureModel(context, settings.embed));
    if (!perSecond) return is(null, 'a model that runs here; nobody measured how fast it is');
    return is(rows / perSecond, `${Math.round(perSecond)} texts a second, measured just now by one process`);
  }
  const limits = await knownLimits(context.db, settings.account, settings.budget ?? {});
  const notes = [...(await restNotes(context, settings.account)), ...spend.notes];
  if (limits.tokensPerMinute === undefined && limits.requestsPerMinute === undefined && spend.seconds === 0) {
    return is(null, 'neither the configuration nor the provider named a limit yet', notes);
  }
  const requests = requestsOf(context, limits);
  const times = [
    {
      seconds: (60 * tokens) / (limits.tokensPerMinute ?? Number.POSITIVE_INFINITY),
      by: `${limits.tokensPerMinute} tokens a minute`,
    },
    {
      seconds: (60 * requests) / (limits.requestsPerMinute ?? Number.POSITIVE_INFINITY),
      by: `${limits.requestsPerMinute} requests a minute`,
    },
  ].sort((a, b) => b.seconds - a.seconds);
  const [{ seconds: works, by } = { seconds: 0, by: '' }] = times;
  const tightest = spend.seconds > works ? `${settings.spendPerDay} USD a day` : by;
  return is(works, `at ${tightest}, the tightest limit at present, if nothing else uses it`, notes, spend.seconds);
}

/** Days after the first: what the cap of a day leaves over. */
function daysOfSpend({ cost, settings: { spendPerDay } }: PlanContext): { seconds: number; notes: string[] } {
  if (!cost || spendPerDay === undefined || cost <= spendPerDay) return { seconds: 0, notes: [] };
  if (spendPerDay === 0)
    return { seconds: 0, notes: ['spend.perDay is 0: nothing that costs money is embedded at all.'] };
  const days = Math.ceil(cost / spendPerDay);
  return {
    seconds: (days - 1) * 86_400,
    notes: [`spend.perDay (${spendPerDay} USD) spreads the cost over ${days} days, if nothing else is embedded.`],
  };
}

/** How many it takes, as workers send them: none holds more than one claim, or more tokens than the gate lets through. */
function requestsOf({ rows, adopts, tokens, price, settings }: PlanContext, limits: KnownLimits): number {
  const { batchKeys = Number.POSITIVE_INFINITY, spendPerDay } = settings;
  const { maxInputs = Number.POSITIVE_INFINITY, maxTokensPerRequest = Number.POSITIVE_INFINITY } =
    settings.embedLimits ?? {};
  const most = Math.min(maxTokensPerRequest, mostTokensPerRequest(limits, { price, capPerDay: spendPerDay }));
  return Math.max((rows - adopts) / Math.min(maxInputs, batchKeys), tokens / most);
}

async function restNotes({ db }: PlanContext, account: string): Promise<string[]> {
  const [row] = await db.query<{ reason: string | null }>(
    'SELECT reason FROM freshvec.account WHERE account = $1 AND resumes_at > clock_timestamp()',
    [account],
  );
  return row ? [`The provider is left alone at present: ${row.reason ?? 'it refused'}.`] : [];
}

/** Texts a second of a model that runs in this process, on what is sent for texts of the sample. */
async function measureModel(
  { sent }: PlanContext,
  embed: (texts: readonly string[]) => Promise<unknown>,
): Promise<number | undefined> {
  const texts = sent.slice(0, SAMPLE_TEXTS);
  // A long text may be sent in hundreds of pieces.
  const parts = texts.flat();
  const sample = parts.slice(0, SAMPLE_TEXTS);
  if (sample.length === 0) return undefined;
  // The first call loads the model.
  await embed(sample.slice(0, 1));
  const began = performance.now();
  await embed(sample);
  const seconds = Math.max(performance.now() - began, 0.1) / 1000;
  return (texts.length * sample.length) / parts.length / seconds;
}
