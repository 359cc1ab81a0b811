export { adoptionNotes } from './adoption.js';
export { type AlterPlan, alterSource, planAlter, type SourceChanges } from './alter.js';
export { applySource, lockedTable, planSql } from './apply.js';
export { captureForStatements } from './capture-change.js';
export { currentSource, holdSource } from './current.js';
export {
  NO_LOCK,
  type PlanModel,
  type PlannedStatement,
  type SourceDefinition,
  type SourcePlan,
  type Verification,
} from './definition.js';
export { dropUnderLock } from './drop-index.js';
export { SourceRefused } from './errors.js';
export { type ExecuteOptions, executeStatements, type LockedTable, lockBudgetMs } from './execute.js';
export { type Hazards, readHazards } from './hazards.js';
export { captureNewPartitions, forgetDetached } from './partitions.js';
export { planSource, verificationOf } from './plan.js';
export { type PlannedSpace, planSpace, reserveSpaceId, type SpaceDefinition } from './plan-space.js';
export { insertLoadRanges, type RangePurpose, rangesSql } from './ranges.js';
export { ADVISED_PGVECTOR, isOlder, vectorExtensionRefusals } from './refuse.js';
export { type Removed, type RemoveOptions, removeSource, uninstallSources } from './remove.js';
export { restlessRefusals } from './restless.js';
export { insertSpaceSql, loadStatement, lockWords, spaceStatements } from './statements.js';
export { mendTriggerModes } from './trigger-modes.js';
export { type AdoptionCheck, type EmbedSample, SAMPLED_ROWS, verifyAdoption } from './verify-adoption.js';
