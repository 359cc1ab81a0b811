import { MAX_ATTEMPTS } from '../claim/lease.js';
import type { Ending } from '../claim/settle.js';
import { readCache, readPieces, writeCache, writePieces } from '../embed/cache.js';
import { embedLong, type LongOutcome, type PieceCache } from '../embed/embed-long.js';
import type { DrainContext } from './context.js';
import { copyTexts } from './copy-texts.js';
import type { EmbeddedTexts } from './embedded-texts.js';
import type { MadeVector } from './made-vector.js';
import type { ReadTexts, WantedText } from './read-texts.js';
import { type Refusal, refusalOf } from './refuse-long.js';

/** Embeds the wanted texts. No transaction is open (DESIGN law 2). */
export async function embedTexts(context: DrainContext, read: ReadTexts): Promise<EmbeddedTexts> {
  if (context.copyFrom) return copyTexts({ ...context, copyFrom: context.copyFrom }, read);
  const items: MadeVector[] = [];
  const refused: Refusal[] = [];
  const endings: Ending[] = [...read.endings];
  let coolDownMs: number | undefined;
  const known = await fromCache(context, read.wanted);
  const wanted = read.wanted.filter(({ hash, lease }) => lease.force || !known.has(hash));
  for (const { key, hash, page, lease } of read.wanted) {
    const vector = lease.force ? undefined : known.get(hash);
    if (vector) items.push({ key, hash, page, vector });
  }
  if (wanted.length > 0) {
    const outcomes = await embed(context, wanted, read.priority);
    const paid: MadeVector[] = [];
    for (const [i, { key, hash, page, lease }] of wanted.entries()) {
      const outcome = outcomes[i];
      if (outcome === undefined) continue;
      if ('vector' in outcome) paid.push({ key, hash, page, ...outcome });
      else if ('refused' in outcome) refused.push(refusalOf(context, { key, hash, lease }, outcome.refused));
      else if ('rejected' in outcome) endings.push(rejected({ key, hash, lease }, outcome));
      else {
        coolDownMs = Math.max(coolDownMs ?? 0, outcome.delayed);
        endings.push({
          key,
          end: 'wait',
          seconds: Math.max(outcome.delayed / 1000, 0.5),
          because: 'delay',
        });
      }
    }
    items.push(...paid);
    // What was made of a part, or of parts, must not pass for the vector of the text: it is kept piece by piece.
    const whole = paid.filter(({ long }) => long === undefined);
    if (context.cached) await writeCache(context.db, context.model.fingerprint, whole).catch(() => 0);
  }
  const losses = new Map(read.wanted.map(({ key, lease }) => [key, lease.losses]));
  const { token, priority, confirm, remove } = read;
  return { token, priority, items, confirm, remove, refused, endings, losses, coolDownMs };
}

async function embed(
  context: DrainContext,
  wanted: readonly WantedText[],
  priority: ReadTexts['priority'],
): Promise<LongOutcome[]> {
  const { model, gate, cut, cached, store } = context;
  const { outcomes, tokens } = await embedLong(
    model,
    wanted.map(({ text }) => text),
    {
      purpose: 'document',
      signal: cut,
      gate,
      priority,
      longTexts: store.source.longTexts,
      apart: new Set(wanted.filter(({ lease }) => lease.attempts > 0).map(({ text }) => text)),
      pieces: cached ? pieceCache(context, wanted) : undefined,
    },
  );
  context.report.tokens += tokens;
  return outcomes;
}

/** Vectors of texts that this model embedded before. A cache that fails is none. */
async function fromCache(
  { db, model, cached }: DrainContext,
  wanted: readonly WantedText[],
): Promise<Map<string, Float32Array>> {
  // `force` pays for a vector of its own.
  const hashes = wanted.filter(({ lease }) => !lease.force).map(({ hash }) => hash);
  if (!cached || hashes.length === 0) return new Map();
  return readCache(db, model.fingerprint, hashes).catch(() => new Map());
}

/** The same for pieces of long texts, so that one of many pieces need not be paid for twice when another is delayed. */
function pieceCache({ db, model }: DrainContext, wanted: readonly WantedText[]): PieceCache {
  const { fingerprint } = model;
  const hashes = new Map(wanted.map(({ text, hash }) => [text, hash]));
  const forced = new Set(wanted.filter(({ lease }) => lease.force).map(({ text }) => text));
  const keyed = <T extends { readonly text: string }>(items: readonly T[]) =>
    items.map(({ text, ...item }) => ({ ...item, hash: hashes.get(text) ?? '' }));
  return {
    read: (pieces) =>
      readPieces(db, fingerprint, keyed(pieces.filter(({ text }) => !forced.has(text)))).catch(() => new Map()),
    write: (pieces) =>
      writePieces(db, fingerprint, keyed(pieces)).then(
        () => {},
        () => {},
      ),
  };
}

/** What the provider only fails at is tried a few times more: each time it waits twice as long. */
function rejected(
  { key, hash, lease }: Omit<WantedText, 'text' | 'page'>,
  { rejected: reason, unsure }: Extract<LongOutcome, { rejected: string }>,
): Ending {
  const attempts = lease.attempts + 1;
  if (!unsure) return { key, end: 'fail', code: 'input_rejected', message: reason, attempts, hash };
  if (attempts < MAX_ATTEMPTS) return { key, end: 'wait', seconds: 2 ** lease.attempts, because: 'attempt' };
  const message = `The model failed at this text ${attempts} times, and each time took another one: ${reason}`;
  return { key, end: 'fail', code: 'provider_failed', message, attempts, hash };
}
