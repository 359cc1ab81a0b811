import type { Gates } from '../../budget/gates.js';
import type { Gate, Migration } from '../../catalog/migration.js';
import type { Source } from '../../catalog/source.js';
import type { Space } from '../../catalog/space.js';
import type { GateSettings } from '../../config/config.js';
import type { Database } from '../../db/database.js';
import type { EmbeddingModel } from '../../embed/port.js';

/** The models of a process; what `worker/models.ts` makes fits. */
export interface ModelSource {
  get(spec: string): Promise<EmbeddingModel>;
  /** Refuses a model whose meaning is not that of the space's vectors any more. */
  forSpace(space: { spec: string; fingerprint: string; dimensions: number }): Promise<EmbeddingModel>;
}

/** What it takes to have texts embedded and charged. */
export interface EmbedContext {
  readonly db: Database;
  readonly source: Source;
  readonly models: ModelSource;
  /** Limits of the providers, and the day's money. */
  readonly budget: Pick<Gates, 'for'>;
  readonly signal: AbortSignal;
}

export interface GateContext extends EmbedContext {
  readonly migration: Migration;
  /** The old space. */
  readonly from: Space;
  /** The new one. */
  readonly to: Space;
  readonly settings: GateSettings;
}

/** Neighbours that recall, overlap and labelled queries look at. */
export const K = 10;
/** Of the samples: the same rows each time, as long as the table stays as it is. */
export const SEED = 1;

export type { Gate };
