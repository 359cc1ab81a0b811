import type { LongTexts } from '../catalog/long-texts.js';
import type { Content, Source } from '../catalog/source.js';
import type { Metric, Space, StoreKind, VectorType } from '../catalog/space.js';

/** What a person says of a space. */
export interface SpaceTraits {
  /** Column of the vector in column mode. */
  readonly column?: string | undefined;
  readonly store?: StoreKind | undefined;
  readonly type?: VectorType | undefined;
  readonly metric?: Metric | undefined;
  readonly index?: 'hnsw' | 'none' | undefined;
  readonly m?: number | undefined;
  readonly efConstruction?: number | undefined;
}

/**
 * What a person says to make a table a source. `column` is `embedding` by default; `store` what the table can bear: `column`,
 * or `table` where freshvec's UPDATEs would hurt the app.
 */
export interface SourceDefinition extends SpaceTraits {
  /** As in SQL: `memory`, `app.memory`, `"We.ird"."Na""me"`. */
  readonly table: string;
  /** By default the table's name. */
  readonly name?: string | undefined;
  readonly content: Content;
  /** `provider/name@dimensions`. */
  readonly model: string;
  /** SQL condition over the row. */
  readonly where?: string | undefined;
  readonly tenant?: string | undefined;
  /** What becomes of texts that are longer than the model takes; `refuse` by default: a failure row. */
  readonly longTexts?: LongTexts | undefined;
  /** Takes over the vectors that `column` holds already, as made by the model from each row's present text, unpaid. */
  readonly adopt?: boolean | undefined;
}

/** What the plan has to know of the model. */
export interface PlanModel {
  readonly spec: string;
  readonly fingerprint: string;
  readonly dimensions: number;
  countTokens(text: string): number;
  /** What is sent in place of a text that is longer than the model takes; undefined for any other. */
  cut?(text: string, longTexts: LongTexts): readonly string[] | undefined;
  /** That it takes of one text. */
  readonly maxTokensPerInput?: number | undefined;
  /** USD; unknown when absent. */
  readonly pricePerMillionTokens?: number | undefined;
}

export interface PlannedStatement {
  readonly sql: string;
  /** The lock on the app's table, in words; `none` where there is none. */
  readonly lock: string;
  readonly why: string;
}

/** Rows of a sample whose text is embedded once more, to be compared with the vectors that are to be taken over. */
export interface Verification {
  readonly rows: number;
  readonly tokens: number;
  /** USD; undefined when the price is unknown, 0 for a local model. */
  readonly cost: number | undefined;
}

/** Everything that adding a source will do. What is shown, written to a file and executed is the same text. */
export interface SourcePlan {
  readonly source: Source;
  readonly space: Space;
  /** The source is there with this definition; nothing is left to do. */
  readonly already: boolean;
  readonly statements: readonly PlannedStatement[];
  /** Rows to embed: they pass the filter, their text is not blank, and they have no vector that is taken over. */
  readonly rows: number;
  /** Vectors that are taken over as they are, unpaid. */
  readonly adopts: number;
  /** What it takes to see whether the model made them; undefined where none is taken over. */
  readonly verification: Verification | undefined;
  readonly rowsEstimated: boolean;
  /** That are sent, from a sample: none of long texts that are refused. */
  readonly tokens: number;
  /** Rows whose text is longer than the model takes, from a sample. */
  readonly longRows: number;
  /** Tokens that the model takes of one text; absent where it takes any number, or nobody knows. */
  readonly maxTokensPerInput?: number;
  /** USD; undefined when the price is unknown, 0 for a local model. */
  readonly cost: number | undefined;
  /** What this does to the app, and what else a person should know. */
  readonly notes: readonly string[];
  readonly proposedStore: StoreKind;
}

export const NO_LOCK = 'none';
export const DEFAULT_COLUMN = 'embedding';
/** pgvector's defaults. */
export const DEFAULT_HNSW = { m: 16, efConstruction: 64 } as const;
