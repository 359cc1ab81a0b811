import type { Database } from '../db/database.js';
import { forgetModel } from './cache.js';
import type { Gate, Priority } from './gate.js';
import { type EmbeddingModel, EmbedError, type EmbedResult } from './port.js';
import { mostTokensOf } from './tokens.js';
import { fromBytes, likeness, toBytes } from './vector-bytes.js';

/**
 * Whether a model is still the one that it was: a provider may put another behind the same name, and the vectors of the
 * two would then stand side by side under one fingerprint. What it gave for a few fixed texts when it was first asked
 * is kept, and compared with what it gives now. A change is put on record and stops every worker until a person decides.
 */

/** `first`: nothing was there to compare with, and now there is. */
export type ProbeResult = 'first' | 'same';
/** `unknown`: never probed. `changed` holds until `acceptProbe`. */
export type ProbeState = 'unknown' | 'same' | 'changed';

export interface ProbeOptions {
  readonly signal?: AbortSignal | undefined;
  /** What the provider's limits allow, as for any other request. */
  readonly gate?: Pick<Gate, 'run'> | undefined;
  /** `interactive` unless told. */
  readonly priority?: Priority | undefined;
  /** A comparison by anybody that is younger than this many ms counts, and nothing is paid; 0 unless told. */
  readonly maxAgeMs?: number | undefined;
}

/** Prose, another script, code and numbers: models that differ in one of them only are told apart too. */
export const PROBE_TEXTS: readonly string[] = [
  'The ferry to the island leaves at dawn, and the last one comes back an hour after sunset.',
  '春になると川沿いの桜が咲き、町の人々は夜遅くまで外で過ごす。',
  'for (let i = 0; i < 1024; i += 3) sum += table[i] * 0.0375; // expect -41.7e6, 0x5F3759DF',
];

/**
 * The same weights do not give the same floats twice: batching and hardware move the third or fourth digit
 * (openai-python issue 868, langchainjs issue 1246). Noise of a part e of the vector costs about e²/2, so a percent of
 * it leaves 0.99995, and the bound forgives 14 %: no false alarm. Vectors of other weights lie 0.05 and more apart; what
 * differs by less than 0.01 hardly changes what is near to what.
 */
const SAME_LIKENESS = 0.99;

type Baseline = {
  readonly texts: string[];
  readonly vectors: Buffer[];
  readonly reason: string | null;
  readonly ageMs: number;
};

/**
 * Asks the model for its probe texts and compares with what it gave first; stores that if nobody has yet. The bundled
 * model is not asked: its fingerprint is a hash of its files. No transaction is open meanwhile.
 *
 * Throws EmbedError `model_changed` if the model has changed, now or by anybody's earlier probe; then nothing must be
 * written with it. What the provider itself fails with is thrown as it is, and nothing is recorded.
 */
export async function probeModel(
  db: Database,
  model: EmbeddingModel,
  options: ProbeOptions = {},
): Promise<ProbeResult> {
  if (model.spec.startsWith('static/')) return 'same';
  for (;;) {
    const baseline = await readBaseline(db, model.fingerprint);
    if (baseline?.reason) throw new EmbedError('model_changed', baseline.reason);
    if (baseline && baseline.ageMs < (options.maxAgeMs ?? 0)) return 'same';
    const texts = baseline?.texts ?? PROBE_TEXTS;
    const vectors = await ask(model, texts, options);
    if (!baseline) {
      if (await storeBaseline(db, model.fingerprint, texts, vectors)) return 'first';
      // Somebody else was first: theirs is what to compare with, if it is of the same texts.
      const theirs = await readBaseline(db, model.fingerprint);
      if (theirs?.reason === null && sameTexts(theirs.texts, texts) && (await settle(db, model, theirs, vectors))) {
        return 'same';
      }
    } else if (await settle(db, model, baseline, vectors)) return 'same';
    // What we compared with was accepted away, or replaced, meanwhile: once more with what is there now.
  }
}

/** What is on record of a model, without asking it. */
export async function probeState(db: Database, fingerprint: string): Promise<ProbeState> {
  const [row] = await db.query<{ changed: boolean }>(
    'SELECT changed_at IS NOT NULL AS changed FROM freshvec.probe WHERE fingerprint = $1',
    [fingerprint],
  );
  if (!row) return 'unknown';
  return row.changed ? 'changed' : 'same';
}

/** Why the model is not the one any more that made the stored vectors; undefined where no probe found that. */
export async function recordedChange(db: Database, fingerprint: string): Promise<string | undefined> {
  const [row] = await db.query<{ reason: string | null }>('SELECT reason FROM freshvec.probe WHERE fingerprint = $1', [
    fingerprint,
  ]);
  return row?.reason ?? undefined;
}

/**
 * Takes the model as it is now: the next probe is a first one. What the cache holds of it is erased, since some of it
 * may be from before the change. Resolves to whether there was a probe on record.
 */
export async function acceptProbe(db: Database, fingerprint: string): Promise<boolean> {
  await forgetModel(db, fingerprint);
  const rows = await db.query('DELETE FROM freshvec.probe WHERE fingerprint = $1 RETURNING 1', [fingerprint]);
  return rows.length > 0;
}

async function ask(
  model: EmbeddingModel,
  texts: readonly string[],
  { gate, signal, priority = 'interactive' }: ProbeOptions,
): Promise<Float32Array[]> {
  const vectors: Float32Array[] = [];
  const each = Math.max(1, model.limits.maxInputs);
  for (let i = 0; i < texts.length; i += each) {
    const some = texts.slice(i, i + each);
    const send = (): Promise<EmbedResult> =>
      model.embed(some, signal ? { purpose: 'document', signal } : { purpose: 'document' });
    const items = some.map((text) => ({ text, tokens: model.countTokens(text) }));
    const tokens = items.reduce((sum, item) => sum + item.tokens, 0);
    const mostTokens = items.reduce((sum, item) => sum + mostTokensOf(model, item.text, item.tokens), 0);
    const request = { tokens, mostTokens, texts: some.length, priority, signal };
    const answer = gate ? await gate.run(request, send) : await send();
    vectors.push(...answer.vectors);
  }
  return vectors;
}

/**
 * Records what the comparison says: true if the model is the same; throws if it has changed. False if the baseline is
 * no longer the one that was compared with, and nothing is recorded.
 */
async function settle(
  db: Database,
  { spec, fingerprint }: EmbeddingModel,
  baseline: Baseline,
  vectors: readonly Float32Array[],
): Promise<boolean> {
  const found = leastLikeness(baseline.vectors, vectors);
  const same = found >= SAME_LIKENESS;
  const reason = same ? null : changedMessage(spec, found);
  const recorded = await db.query(
    `UPDATE freshvec.probe
     SET checked_at = now(), reason = $3::text, changed_at = CASE WHEN $3::text IS NULL THEN NULL ELSE now() END
     WHERE fingerprint = $1 AND vectors = $2::bytea[] AND changed_at IS NULL RETURNING 1`,
    [fingerprint, baseline.vectors, reason],
  );
  if (recorded.length === 0) return false;
  if (reason !== null) throw new EmbedError('model_changed', reason);
  return true;
}

/** Of the text that differs most; NaN, which is like nothing, where a vector is missing or of another length. */
function leastLikeness(before: readonly Buffer[], now: readonly Float32Array[]): number {
  if (before.length !== now.length) return Number.NaN;
  return Math.min(
    ...now.map((vector, i) => {
      const stored = fromBytes(before[i] ?? new Uint8Array());
      return stored ? likeness(stored, vector) : Number.NaN;
    }),
  );
}

function changedMessage(spec: string, found: number): string {
  const likeness = Number.isNaN(found) ? 'vectors that cannot be compared' : `a similarity of ${found.toFixed(4)}`;
  return (
    `${spec} is not the model any more that made the stored vectors: the same texts have ${likeness} to what it gave ` +
    `before (${SAME_LIKENESS} or more is the same model). Nothing is written with it. Re-embed with another model, or, ` +
    `if you know that this is fine, run \`freshvec probe accept ${spec}\`.`
  );
}

async function readBaseline(db: Database, fingerprint: string): Promise<Baseline | undefined> {
  // In a transaction for its bytea_output, which a role may have set otherwise.
  const [row] = await db.tx((tx) =>
    tx.query<Baseline>(
      `SELECT texts, vectors, reason, (extract(epoch FROM now() - checked_at) * 1000)::float8 AS "ageMs"
       FROM freshvec.probe WHERE fingerprint = $1`,
      [fingerprint],
    ),
  );
  return row;
}

/** False when there is one already. */
async function storeBaseline(
  db: Database,
  fingerprint: string,
  texts: readonly string[],
  vectors: readonly Float32Array[],
): Promise<boolean> {
  const rows = await db.query(
    `INSERT INTO freshvec.probe (fingerprint, texts, vectors) VALUES ($1, $2::text[], $3::bytea[])
     ON CONFLICT DO NOTHING RETURNING 1`,
    [fingerprint, texts, vectors.map(toBytes)],
  );
  return rows.length > 0;
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i]);
}
