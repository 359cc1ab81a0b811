import { TEXT_TOO_LONG } from '../catalog/long-texts.js';
import { holdDefinition } from '../catalog/source.js';
import { type Ending, settle } from '../claim/settle.js';
import type { LongOutcome } from '../embed/embed-long.js';
import type { WriteOutcome } from '../store/port.js';
import type { DrainContext } from './context.js';
import type { WantedText } from './read-texts.js';
import { vetoed } from './write-refused.js';

/** A text that is too long: how its lease ends. */
export type Refusal = Extract<Ending, { end: 'fail' }>;
type TooLong = Extract<LongOutcome, { refused: unknown }>['refused'];

/** The failure of a text that is too long, with what can be done about it. */
export function refusalOf(
  { store: { source }, model }: Pick<DrainContext, 'store' | 'model'>,
  { key, hash, lease }: Omit<WantedText, 'text' | 'page'>,
  { tokens, maxTokens }: TooLong,
): Refusal {
  const limit = maxTokens === undefined ? '' : ` ${maxTokens.toLocaleString('en-US')} tokens`;
  const about = `The text has about ${tokens.toLocaleString('en-US')} tokens; ${model.spec} takes ${limit === '' ? 'fewer' : `at most${limit}`}.`;
  const advice =
    source.longTexts === 'refuse'
      ? `Shorten it, or have long texts cut or split: \`freshvec source alter ${source.name} --long-texts truncate\`, or chunk.`
      : 'It could not be made short enough.';
  return { key, end: 'fail', code: TEXT_TOO_LONG, message: `${about} ${advice}`, attempts: lease.attempts + 1, hash };
}

/**
 * Sets rows aside whose texts are too long. A vector that was made of a part of such a text, under another choice than
 * that of now, is taken away; one of an earlier text stays, stale. What cannot be done now ends otherwise: by what became
 * of each key, `locked` also where the source was altered meanwhile.
 */
export async function settleRefused(
  { db, store }: Pick<DrainContext, 'db' | 'store'>,
  token: string,
  refused: readonly Refusal[],
): Promise<Map<string, WriteOutcome>> {
  if (refused.length === 0) return new Map();
  return db.tx(async (tx) => {
    // Whoever alters the choice waits for this, or has done so: then a failure would be of yesterday's choice.
    if (!(await holdDefinition(tx, store.source))) return new Map(refused.map(({ key }) => [key, 'locked']));
    const keys = refused.map(({ key }) => key);
    const outcomes = await store.remove(tx, token, keys);
    const endings = refused.flatMap((refusal): Ending[] => {
      const outcome = outcomes.get(refusal.key);
      if (outcome === 'written') return [{ ...refusal, vector: 'none' }];
      if (outcome === 'vetoed') return [vetoed(store.source, refusal)];
      return outcome === 'changed' ? [refusal] : [];
    });
    await settle(tx, store.space.id, token, endings);
    return outcomes;
  });
}
