import type { Ending } from '../claim/settle.js';
import type { Priority } from '../embed/gate.js';
import type { MadeVector } from './made-vector.js';
import type { Refusal } from './refuse-long.js';

/** A claim whose texts have been to the provider. */
export interface EmbeddedTexts {
  readonly token: string;
  readonly priority: Priority;
  readonly items: readonly MadeVector[];
  readonly confirm: readonly string[];
  readonly remove: readonly string[];
  /** Texts that are too long for the model. */
  readonly refused: readonly Refusal[];
  readonly endings: readonly Ending[];
  /** Writes lost before, by key: they set how long a key waits after the next loss. */
  readonly losses: ReadonlyMap<string, number>;
  /** The provider asked for a pause of so many ms, or failed (0: it named no time). */
  readonly coolDownMs: number | undefined;
}
