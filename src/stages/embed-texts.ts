import type { Ending } from '../claim/settle.js';
import { readCache, writeCache } from '../embed/cache.js';
import { embedAll } from '../embed/embed-all.js';
import type { WriteItem } from '../store/port.js';
import type { DrainContext } from './context.js';
import type { ReadTexts, WantedText } from './read-texts.js';

/** A claim whose texts have been to the provider. */
export interface EmbeddedTexts {
  readonly token: string;
  readonly items: readonly WriteItem[];
  readonly confirm: readonly string[];
  readonly remove: readonly string[];
  readonly endings: readonly Ending[];
  /** Writes lost before, by key: they set how long a key waits after the next loss. */
  readonly losses: ReadonlyMap<string, number>;
  /** The provider asked for a pause of so many ms, or failed (0: it named no time). */
  readonly coolDownMs: number | undefined;
}

/** Embeds the wanted texts. No transaction is open (DESIGN law 2). */
export async function embedTexts(context: DrainContext, read: ReadTexts): Promise<EmbeddedTexts> {
  const items: WriteItem[] = [];
  const endings: Ending[] = [...read.endings];
  let coolDownMs: number | undefined;
  const known = await fromCache(context, read.wanted);
  const wanted = read.wanted.filter(({ hash, lease }) => lease.force || !known.has(hash));
  for (const { key, hash, lease } of read.wanted) {
    const vector = lease.force ? undefined : known.get(hash);
    if (vector) items.push({ key, hash, vector });
  }
  if (wanted.length > 0) {
    const { outcomes, tokens } = await embedAll(
      context.model,
      wanted.map(({ text }) => text),
      { purpose: 'document', signal: context.cut, gate: context.gate, priority: read.priority },
    );
    context.report.tokens += tokens;
    const paid: WriteItem[] = [];
    for (const [i, { key, hash, lease }] of wanted.entries()) {
      const outcome = outcomes[i];
      if (outcome === undefined) continue;
      if ('vector' in outcome) paid.push({ key, hash, vector: outcome.vector });
      else if ('rejected' in outcome) endings.push(rejected({ key, hash, lease }, outcome.rejected));
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
    if (context.cached) await writeCache(context.db, context.model.fingerprint, paid).catch(() => 0);
  }
  const losses = new Map(read.wanted.map(({ key, lease }) => [key, lease.losses]));
  return { token: read.token, items, confirm: read.confirm, remove: read.remove, endings, losses, coolDownMs };
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

function rejected({ key, hash, lease }: Omit<WantedText, 'text'>, reason: string): Ending {
  return { key, end: 'fail', code: 'input_rejected', message: reason, attempts: lease.attempts + 1, hash };
}
