import { parseModelSpec } from '../../catalog/model.js';
import { likeness } from '../../embed/vector-bytes.js';
import { sampleStored } from '../../search/recall-curve.js';
import { embedSample } from '../eval/embed.js';
import { type Gate, type GateContext, SEED } from './context.js';

/**
 * How like two vectors of one text are at least. Providers differ in the fourth digit between two calls, and a halfvec
 * rounds the fourth too; both leave 0.9999. An ONNX model that is quantised dynamically scales a batch by its largest
 * activation, so its answers depend on what else is in the batch: minilm-onnx gave 0.98 and more for one text in batches
 * of 1, 10 and 60, and 0.87 at most for texts that differ by a few words.
 */
const LEAST_LIKENESS = { onnx: 0.95, other: 0.99 } as const;

/**
 * Vectors of the new space are those that the new model gives for their rows' texts now. Where they were copied, the live
 * space under the same fingerprint has them, and no model is asked: it may not even be there any more.
 */
export async function recomputedGate(context: GateContext): Promise<Gate> {
  const { db, source, from, to, settings } = context;
  const usual = parseModelSpec(to.spec).provider === 'onnx' ? LEAST_LIKENESS.onnx : LEAST_LIKENESS.other;
  const bound = settings.recomputedLikeness ?? usual;
  const stored = await sampleStored(db, source, to, settings.recomputedRows, SEED);
  const copied = from.fingerprint === to.fingerprint;
  const wanted = copied ? await copiedFrom(context, stored) : await recompute(context, stored);
  const compared = stored.flatMap(({ key, vector }, i) => {
    const other = wanted[i];
    // A halfvec has lost some digits; a text that is rejected today says nothing of its vector.
    return other === undefined ? [] : [{ key, like: likeness(vector, other) || 0 }];
  });
  const wrong = compared.filter(({ like }) => like < bound);
  const gate = { name: 'recomputed', bound };
  if (compared.length === 0)
    return { ...gate, passed: true, value: null, note: 'there are no vectors to compare with' };
  const value = Math.min(...compared.map(({ like }) => like));
  const what = `least likeness of ${compared.length} stored vectors to ${copied ? 'those that they were copied from' : `what ${to.spec} gives for their texts now`}`;
  const keys = wrong.map(({ key }) => key).slice(0, 5);
  const mend = copied ? '' : ': look with `freshvec probe` whether the model has changed';
  const advice = `${what}; ${wrong.length} are not of this model or text, for example of the rows ${keys.join(', ')}${mend}`;
  return { ...gate, passed: wrong.length === 0, value, note: wrong.length === 0 ? what : advice };
}

type Stored = Awaited<ReturnType<typeof sampleStored>>;

async function recompute(context: GateContext, stored: Stored): Promise<readonly (Float32Array | undefined)[]> {
  const model = await context.models.forSpace(context.to);
  const texts = stored.map(({ text }) => text);
  return (await embedSample(context, model, texts, 'document')).vectors;
}

/** Of the same rows; not of those that were edited between the two looks. */
async function copiedFrom({ db, source, from, settings }: GateContext, stored: Stored) {
  const live = new Map(
    (await sampleStored(db, source, from, settings.recomputedRows, SEED)).map((row) => [row.key, row]),
  );
  return stored.map(({ key, text }) => {
    const row = live.get(key);
    return row?.text === text ? row.vector : undefined;
  });
}
