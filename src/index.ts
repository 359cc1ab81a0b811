/** freshvec's public surface: `import { createClient } from 'freshvec'`. */
export type { SpendPurpose } from './budget/spend.js';
export type { Spend, SpendOptions, SpendReport } from './budget/spend-report.js';
export type { KeyInput, QueryClient } from './capture/index.js';
export type { KeyValue } from './catalog/key-value.js';
export type { LongText, LongTexts } from './catalog/long-texts.js';
export type { Gate, LabelledQuery, MigrationState, Signal } from './catalog/migration.js';
export type { Pause, PauseKind } from './catalog/pause.js';
export type { Migration, SchemaStatus } from './catalog/schema.js';
export type { Content, KeyColumn, Source } from './catalog/source.js';
export type { Adoption, Metric, Space, SpaceState, StoreKind, VectorType } from './catalog/space.js';
export { type Client, createClient } from './client/client.js';
export type { TextVector } from './client/embed.js';
export type { FailedRow, FailuresApi } from './client/failures.js';
export type { MaintenanceApi, MaintenanceRunOptions, MaintenanceTurn } from './client/maintenance.js';
export type { ClientOptions } from './client/options.js';
export type { PauseOptions } from './client/pauses.js';
export type { ReembedApi, ReembedStartOptions } from './client/reembed.js';
export type { ApplyOptions, LongTextRow, SourceInfo, SourcesApi } from './client/sources.js';
export type { SpaceCoverage } from './client/space-coverage.js';
export type { WorkOnceOptions, WorkProgress, WorkReport } from './client/work-once.js';
export type { Config } from './config/config.js';
export { ConfigError } from './config/errors.js';
export type { Settings } from './config/settings.js';
export type { Database, Executor } from './db/database.js';
export { FreshvecError } from './db/errors.js';
export { type EmbeddingModel, EmbedError, type EmbedFailure } from './embed/port.js';
export { type AiSdkEmbeddingModel, type FromAiSdkOptions, fromAiSdk } from './embed/providers/ai-sdk.js';
export type { AutovacuumProposal } from './maintenance/autovacuum.js';
export type { MaintenanceReport, MaintenanceServiceStatus } from './maintenance/list.js';
export type { MaintenancePause } from './maintenance/pauses.js';
export type { ReindexReport, ReindexRequest } from './maintenance/reindex-source.js';
export type { MaintenanceRun, RunOutcome } from './maintenance/run-log.js';
export type { ReembedDefinition, ReembedPlan, StartOptions } from './reembed/definition.js';
export { MigrationMissing, MigrationRefused, ReembedRefused } from './reembed/errors.js';
export type { MigrationStatus } from './reembed/status.js';
export type { Filter, FilterOperators, SearchHit, SearchRequest, SearchResult } from './search/index.js';
export {
  type AdoptionCheck,
  type AlterPlan,
  type SourceChanges,
  type SourceDefinition,
  type SourcePlan,
  SourceRefused,
  type Verification,
} from './source/index.js';
export type { ProviderStatus } from './status/providers.js';
export type { SourceStatus, SpaceStatus, Status, StatusOptions } from './status/status.js';
export { FreshnessTimeoutError, RowFailedError, type WaitOptions } from './status/wait-until-fresh.js';
