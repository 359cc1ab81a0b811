import type { ConfiguredLimits } from '../budget/account.js';
import type { LabelledQuery } from '../catalog/migration.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { ThrottleSettings } from '../config/throttle.js';
import type { EmbedLimits } from '../embed/port.js';
import type { PlannedStatement, SpaceDefinition, Verification } from '../source/index.js';
import type { IndexSettings } from './operation.js';

/** What a person says to move a source to another space. */
export interface ReembedDefinition extends SpaceDefinition {
  /** `provider/name@dimensions`; by default the live space's, for a move of type, metric or store alone. */
  readonly model?: string | undefined;
}

export interface StartOptions {
  /** Switch by itself once every gate holds. */
  readonly auto?: boolean | undefined;
  /** Share of the rows, over 0 to 1, after which the backfill rests. */
  readonly until?: number | undefined;
  /** Seconds after the switch at which the old space is dropped without being asked. */
  readonly retainSeconds?: number | undefined;
  /** USD that the new space may cost before work on it rests. */
  readonly spendCap?: number | undefined;
  readonly queries?: readonly LabelledQuery[] | undefined;
}

/** Everything that a re-embedding will do. */
export interface ReembedPlan {
  readonly source: Source;
  readonly from: Space;
  /** The new space; its id is 0 until it is started. */
  readonly to: Space;
  readonly rows: number;
  readonly rowsEstimated: boolean;
  /** Rows beside these on which content or filter fails: they get no vector. */
  readonly failingRows: number;
  /** Of the rows that are not adopted, from a sample: those whose text is longer than the new model takes. */
  readonly longRows: number;
  /** Tokens that the new model takes of one text; absent where it takes any number, or nobody knows. */
  readonly maxTokensPerInput?: number;
  /** That are sent, from a sample: none of long texts that are refused, and none where vectors are copied. */
  readonly tokens: number;
  /** USD; undefined where the price is not known, 0 for a local model or a copy. */
  readonly cost: number | undefined;
  /** Of the rows: those whose vector is in the adopted column already, and taken over unpaid. */
  readonly adopts: number;
  /** What it takes to see whether the model made them; undefined where none is taken over. */
  readonly verification: Verification | undefined;
  /** Vectors come from the live space, which has the same fingerprint: no provider is asked. */
  readonly copies: boolean;
  /** Measured or estimated, in the order in which a person wants to read them. */
  readonly facts: readonly PlanFact[];
  /** Why it cannot be done, each with what to do. Empty where it can. */
  readonly blockers: readonly string[];
  readonly notes: readonly string[];
  /** What expanding runs. Ids of the new space are the next free ones: they are fixed when it is started. */
  readonly statements: readonly PlannedStatement[];
  /** What the steps after it run, in their order. */
  readonly later: readonly PlannedStatement[];
}

/** What a plan has to know beside the database; what is left out is reported as unknown. */
export interface PlanSettings {
  /** At the provider; undefined for a model that runs here. */
  readonly account?: string | undefined;
  readonly embedLimits?: Pick<EmbedLimits, 'maxInputs' | 'maxTokensPerRequest'> | undefined;
  /** Rows that a worker claims, and embeds, together. */
  readonly batchKeys?: number | undefined;
  readonly budget?: ConfiguredLimits | undefined;
  /** USD that a day may cost, over all sources. */
  readonly spendPerDay?: number | undefined;
  /** Embeds texts with a model that runs here, to see how fast it is. */
  readonly embed?: ((texts: readonly string[]) => Promise<unknown>) | undefined;
  readonly throttle?: Partial<ThrottleSettings> | undefined;
  readonly index?: IndexSettings | undefined;
  /** Part of the rows that may fail: the bound of the gate `failures`. */
  readonly failedShare?: number | undefined;
}

export type PlanFactName =
  /** Time in all, and its parts. */
  | 'seconds'
  | 'providerSeconds'
  | 'writeSeconds'
  | 'buildSeconds'
  /** What the new vectors and their index take for good, what is needed on the way, and what there is. */
  | 'diskBytes'
  | 'deadBytes'
  | 'indexBytes'
  | 'peakBytes'
  | 'freeBytes'
  | 'graphBytes'
  | 'walBytes'
  | 'walRowBytes'
  | 'hotShare'
  | 'backfillHotShare'
  | 'fillfactor'
  | 'triggers'
  | 'partitions'
  | 'replicas'
  | 'locks'
  | 'buildWorkers'
  | 'pgvector';

export interface PlanFact {
  /** `seconds`, `diskBytes`, `indexBytes`, `walBytes`, `hotShare`, … */
  readonly name: PlanFactName;
  readonly value: number | string | null;
  readonly unit: 's' | 'bytes' | 'share' | 'count' | 'text';
  /** How it is known, and what it means. */
  readonly note: string;
}
