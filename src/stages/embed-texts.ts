import type { Ending } from '../claim/settle.js';
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
  if (read.wanted.length > 0) {
    const { outcomes, tokens } = await embedAll(
      context.model,
      read.wanted.map(({ text }) => text),
      { purpose: 'document', signal: context.cut },
    );
    context.report.tokens += tokens;
    for (const [i, wanted] of read.wanted.entries()) {
      const outcome = outcomes[i];
      if (outcome === undefined) continue;
      if ('vector' in outcome) items.push({ key: wanted.key, hash: wanted.hash, vector: outcome.vector });
      else if ('rejected' in outcome) endings.push(rejected(wanted, outcome.rejected));
      else {
        coolDownMs = Math.max(coolDownMs ?? 0, outcome.delayed);
        endings.push({
          key: wanted.key,
          end: 'wait',
          seconds: Math.max(outcome.delayed / 1000, 0.5),
          because: 'delay',
        });
      }
    }
  }
  const losses = new Map(read.wanted.map(({ key, lease }) => [key, lease.losses]));
  return { token: read.token, items, confirm: read.confirm, remove: read.remove, endings, losses, coolDownMs };
}

function rejected({ key, hash, lease }: WantedText, reason: string): Ending {
  return { key, end: 'fail', code: 'input_rejected', message: reason, attempts: lease.attempts + 1, hash };
}
