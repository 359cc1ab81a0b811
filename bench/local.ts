import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { packageRoot } from '../src/config/package-root.js';
import { embedAll } from '../src/embed/embed-all.js';
import { openModel } from '../src/embed/open.js';
import type { EmbeddingModel } from '../src/embed/port.js';
import { BareLoop } from './support/bare-loop.js';
import type { Figure } from './support/figures.js';
import type { Bench, Lab } from './support/lab.js';
import { median, seededRandom, timed } from './support/stats.js';

const TEXTS = 300;
/** Words per text: log-uniform, as notes, messages and paragraphs are. */
const WORDS = { least: 4, most: 240 };
/** As many as a drain embeds together. */
const BATCH_KEYS = 200;
const BATCH_SIZES = [4, 8, 16, 32];
const REPETITIONS = 7;
const DELAY_PASSES = 3;

const SHORT_TEXTS = 20_000;
const SHORT_WORDS = 8;

type Pass = () => Promise<unknown>;

/**
 * The local models: MiniLM (int8) as freshvec runs it, in its thread and through embedAll, against a loop over the same
 * runtime and tokeniser in the main thread, which does nothing else; and the bundled model's rate.
 */
export const local: Bench = async (lab) => {
  const random = seededRandom(7);
  const words = vocabulary();
  const texts = Array.from({ length: TEXTS }, () =>
    sentence(words, random, Math.round(WORDS.least * (WORDS.most / WORDS.least) ** random())),
  );
  const short = Array.from({ length: SHORT_TEXTS }, () => sentence(words, random, SHORT_WORDS));
  return [...(await onnx(lab, texts)), await bundled(lab, short)];
};

async function onnx(lab: Lab, texts: readonly string[]): Promise<Figure[]> {
  const folder = join(packageRoot(), '../shared/models/minilm-onnx');
  const bare = await BareLoop.open(folder);
  lab.later(() => bare.close());
  const model = await openModel('onnx/minilm@384', { onnx: { path: folder }, requestTimeoutMs: 30_000 });
  lab.later(() => model.close());
  const size = await bestSize(lab, bare, texts);
  const passes = {
    ours: () => ours(model, texts),
    sorted: () => bare.embed(texts, { size, sorted: true }),
    unsorted: () => bare.embed(texts, { size, sorted: false }),
  };
  const ms = await alternate(lab, passes);
  // In passes of their own: a timer every millisecond takes its part of two cores.
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  for (let pass = 0; pass < DELAY_PASSES; pass++) await passes.ours();
  delay.disable();
  lab.setup.push(
    `MiniLM int8, ${TEXTS} texts of ${WORDS.least} to ${WORDS.most} words, median of ${REPETITIONS}, alternating; ` +
      `best of ${BATCH_SIZES.join(', ')} per batch: ${size}`,
  );
  // In each round they ran one right after the other, so whatever else the machine does cancels out.
  const times = (other: keyof typeof passes) => median(ms[other].map((took, i) => took / (ms.ours[i] ?? Number.NaN)));
  return [
    { what: 'ONNX MiniLM, ours', value: (TEXTS / median(ms.ours)) * 1000, unit: '/s' },
    { what: 'ours / bare loop, best batch size, sorted by length', value: times('sorted'), unit: '×', atLeast: 0.95 },
    { what: 'ours / bare loop, same batch size, unsorted', value: times('unsorted'), unit: '×', atLeast: 1.4 },
    { what: 'event-loop delay meanwhile, p99', value: delay.percentile(99) / 1e6, unit: 'ms', atMost: 50 },
  ];
}

async function ours(model: EmbeddingModel, texts: readonly string[]): Promise<void> {
  for (let at = 0; at < texts.length; at += BATCH_KEYS) {
    const { outcomes } = await embedAll(model, texts.slice(at, at + BATCH_KEYS), { purpose: 'document' });
    if (outcomes.some((outcome) => !('vector' in outcome))) throw new Error('a text was not embedded');
  }
}

/** Texts per batch at which the bare loop over sorted texts is fastest. */
async function bestSize(lab: Lab, bare: BareLoop, texts: readonly string[]): Promise<number> {
  const passes = Object.fromEntries(
    BATCH_SIZES.map((size): [string, Pass] => [String(size), () => bare.embed(texts, { size, sorted: true })]),
  );
  const ms = await alternate(lab, passes, 3);
  const [best] = Object.entries(ms).sort(([, a], [, b]) => median(a) - median(b));
  return Number(best?.[0]);
}

/** Ms of each pass, run in turns; the first round warms up and does not count. */
async function alternate<Name extends string>(
  lab: Lab,
  passes: Readonly<Record<Name, Pass>>,
  repetitions = REPETITIONS,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(passes) as Name[];
  const ms = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = 0; round <= repetitions; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      const took = await timed(passes[name]);
      if (round > 0) ms[name].push(took);
    }
    if (round === 0) continue;
    const said = names.map((name) => `${name} ${ms[name].at(-1)?.toFixed(0)} ms`);
    lab.say(`${round} of ${repetitions}: ${said.join(', ')}`);
  }
  return ms;
}

/** The bundled model runs in the main thread only, hence on one core. */
async function bundled(lab: Lab, texts: readonly string[]): Promise<Figure> {
  const model = await openModel('static/mini@256', { requestTimeoutMs: 30_000 });
  const ms = await alternate(lab, { static: () => embedAll(model, texts, { purpose: 'document' }) });
  lab.setup.push(`static/mini@256: ${SHORT_TEXTS} texts of ${SHORT_WORDS} words`);
  return {
    what: 'bundled model, short texts',
    value: (SHORT_TEXTS / median(ms.static)) * 1000,
    unit: '/s',
    atLeast: 20_000,
  };
}

function sentence(words: readonly string[], random: () => number, length: number): string {
  return Array.from({ length }, () => words[Math.floor(random() ** 2 * words.length)]).join(' ');
}

/** English words, the frequent ones first: those of a BERT vocabulary. */
function vocabulary(): string[] {
  const path = join(packageRoot(), 'models/static-mini/tokenizer.json');
  const { model } = JSON.parse(readFileSync(path, 'utf8')) as { model: { vocab: Record<string, number> } };
  return Object.keys(model.vocab).filter((word) => /^[a-z]{2,}$/.test(word));
}
