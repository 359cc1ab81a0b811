import type { Ending } from '../claim/settle.js';
import type { WriteItem } from '../store/port.js';

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
