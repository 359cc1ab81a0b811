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
  const model = await connection.models.get(space.spec);
  const gate = (await connection.gates()).for(model, { source: source.name, purpose: 'probe' });
  return verifyAdoption(db, { source, space }, async (texts) => {
    const { outcomes } = await embedAll(model, texts, { purpose: 'document', gate, priority: 'interactive' });
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
