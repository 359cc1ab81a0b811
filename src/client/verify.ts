import { pricePerMillionTokens } from '../budget/prices.js';
import { microsOf, recordSpend } from '../budget/spend.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import { embedAll } from '../embed/embed-all.js';
import { EmbedError } from '../embed/port.js';
import { type AdoptionCheck, verifyAdoption } from '../source/index.js';
import type { Connection } from './connection.js';

/**
 * Looks whether the model of a plan made the vectors that it takes over; what that costs goes on record. Undefined where
 * it takes none over. Throws SourceRefused, EmbedError.
 */
export async function verifyPlan(
  connection: Connection,
  { source, space }: { readonly source: Source; readonly space: Space },
): Promise<AdoptionCheck | undefined> {
  if (space.adoption === undefined) return undefined;
  const db = await connection.ready();
  const { models, config } = connection;
  const model = await models.get(space.spec);
  const gate = (await connection.gates()).for(model);
  return verifyAdoption(db, { source, space }, async (texts) => {
    const { outcomes, tokens } = await embedAll(model, texts, { purpose: 'document', gate, priority: 'interactive' });
    const price = pricePerMillionTokens(space.spec, { prices: config.prices, baseUrl: config.models.openai.baseUrl });
    const charge = { source: source.name, fingerprint: model.fingerprint, texts: texts.length, tokens };
    if (tokens > 0) await recordSpend(db, { ...charge, micros: microsOf(tokens, price ?? 0) });
    return outcomes.map((outcome) => {
      if ('vector' in outcome) return outcome.vector;
      if ('rejected' in outcome) return undefined;
      throw new EmbedError(
        outcome.failure,
        `${space.spec} did not embed the sample that shows whether it made the vectors (${outcome.failure}). Try again, or leave that out with \`--no-verify\`.`,
        { retryAfterMs: outcome.delayed },
      );
    });
  });
}
