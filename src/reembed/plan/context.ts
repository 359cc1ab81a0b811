import type { Source } from '../../catalog/source.js';
import type { Space } from '../../catalog/space.js';
import type { Database, VectorExtension } from '../../db/database.js';
import type { Hazards } from '../../source/index.js';
import type { PlanFact, PlanSettings } from '../definition.js';
import type { TableFacts } from './table-facts.js';

/** Bytes, by PostgreSQL's and pgvector's own page layouts. */
export interface Sizes {
  /** One vector as a value. */
  readonly vector: number;
  /** The vector does not fit on the row: it goes to TOAST, in chunks. */
  readonly toasted: boolean;
  /** A row of the relation that is written, on average, before (0 for a table of our own) and after. */
  readonly rowBefore: number;
  readonly rowAfter: number;
  /** Share of the rows, 0 to 1, that get a vector; the others have it in the adopted column. */
  readonly embeddedShare: number;
  /** What the vectors add for good. */
  readonly disk: number;
  /** Old versions of updated rows, until a vacuum. */
  readonly dead: number;
  readonly index: number;
  /** The graph of the largest index in memory while it is built. */
  readonly graph: number;
}

/** What every measurement of a plan may look at. */
export interface PlanContext {
  readonly db: Database;
  readonly source: Source;
  readonly from: Space;
  readonly to: Space;
  /** Rows that want a vector. */
  readonly rows: number;
  /** Of the rows: those whose vector is in the adopted column already. */
  readonly adopts: number;
  /** Rows beside these on which content or filter fails. */
  readonly fails: number;
  /** Of the rows that are not adopted: those whose text is longer than the new model takes. */
  readonly longRows: number;
  /** Tokens that are paid for: 0 where vectors are copied. */
  readonly tokens: number;
  /** What is sent for each text of a sample: nothing for one that is refused as too long. */
  readonly sent: readonly (readonly string[])[];
  readonly copies: boolean;
  /** USD; undefined where nobody knows. */
  readonly cost: number | undefined;
  /** USD for a million tokens; 0 where it costs nothing or nobody knows. */
  readonly price: number;
  readonly table: TableFacts;
  readonly sizes: Sizes;
  /** Somebody's index on the adopted column serves: none is built. */
  readonly indexServes: boolean;
  readonly hazards: Hazards;
  readonly extension: VectorExtension | undefined;
  readonly settings: PlanSettings;
}

export interface Findings {
  readonly facts?: readonly PlanFact[];
  readonly blockers?: readonly string[];
  readonly notes?: readonly string[];
}

/** Looks at one thing; changes nothing. */
export type Measurement = (context: PlanContext) => Findings | Promise<Findings>;
