export { type AlterPlan, alterSource, planAlter, type SourceChanges } from './alter.js';
export { applySource, planSql } from './apply.js';
export type { PlanModel, PlannedStatement, SourceDefinition, SourcePlan } from './definition.js';
export { SourceRefused } from './errors.js';
export type { ExecuteOptions } from './execute.js';
export { captureNewPartitions } from './partitions.js';
export { planSource } from './plan.js';
export { insertLoadRanges, type RangePurpose, rangesSql } from './ranges.js';
export { type RemoveOptions, removeSource, uninstallSources } from './remove.js';
