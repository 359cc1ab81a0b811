import type { LongText } from '../catalog/long-texts.js';
import type { WriteItem } from '../store/port.js';

/** A vector to be written, where to, and how it was made where its text was too long. */
export interface MadeVector extends WriteItem {
  readonly long?: LongText | undefined;
  /** As `RowText.page` has it, when the text was read. */
  readonly page: string | undefined;
}
