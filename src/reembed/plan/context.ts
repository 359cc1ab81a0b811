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
  /** Tokens that are paid for: 0 where vectors are copied. */
  readonly tokens: number;
  readonly copies: boolean;
  /** USD; undefined where nobody knows. */
  readonly cost: number | undefined;
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
