import { type KeyValue, keyValue } from '../catalog/key-value.js';
import type { LongText, LongTexts } from '../catalog/long-texts.js';
import { getSource, listSources, type Source } from '../catalog/source.js';
import { listMaintainedSpaces, liveSpace, type Space } from '../catalog/space.js';
import type { Database } from '../db/database.js';
import {
  type AdoptionCheck,
  type AlterPlan,
  alterSource,
  applySource,
  type ExecuteOptions,
  planAlter,
  planSource,
  planSql,
  type Removed,
  removeSource,
  type SourceChanges,
  type SourceDefinition,
  type SourcePlan,
} from '../source/index.js';
import { listLongTexts } from '../status/long-texts.js';
import type { Connection } from './connection.js';
import { embedText } from './embed.js';
import { planModel } from './plan-model.js';
import { verifyPlan } from './verify.js';

/** A source as the catalog has it. */
export interface SourceInfo {
  readonly name: string;
  readonly schema: string;
  readonly table: string;
  readonly key: Source['key'];
  readonly content: Source['content'];
  readonly where: string | null;
  readonly tenant: string | null;
  readonly longTexts: LongTexts;
  readonly live: { readonly space: number; readonly epoch: number } | null;
  readonly spaces: readonly Omit<Space, 'sourceId'>[];
}

/** A row whose vector was made of the beginning, or of the pieces, of a text that is too long for the model. */
export interface LongTextRow extends LongText {
  readonly source: string;
  readonly key: KeyValue;
  readonly at: Date;
}

export interface ApplyOptions extends ExecuteOptions {
  /** False takes vectors over unseen. */
  readonly verify?: boolean | undefined;
}

export interface SourcesApi {
  /** What adding would do; changes nothing. Throws SourceRefused with every reason why it cannot work. */
  plan(definition: SourceDefinition): Promise<SourcePlan>;
  /** The plan as an SQL file. */
  sql(plan: SourcePlan): string;
  /**
   * Looks whether the model made the vectors that a plan takes over, by embedding a few rows: what that costs, the plan
   * says. Undefined where it takes none over. Throws SourceRefused where it did not.
   */
  verify(plan: SourcePlan): Promise<AdoptionCheck | undefined>;
  /**
   * Does what a plan says, after one tiny paid call that shows whether key and dimensions are right, after `verify`
   * unless told otherwise, and after a try, rolled back, whether the table's own UPDATE triggers let its rows come to rest.
   * Throws SourceRefused where they do not.
   */
  apply(plan: SourcePlan, options?: ApplyOptions): Promise<void>;
  /** Plans and applies. */
  add(definition: SourceDefinition, options?: ApplyOptions): Promise<SourcePlan>;
  list(): Promise<SourceInfo[]>;
  show(name: string): Promise<SourceInfo>;
  /** Rows whose live vector is not that of their whole text; of one source, or of all. */
  longTexts(name?: string): Promise<LongTextRow[]>;
  planAlter(name: string, changes: SourceChanges): Promise<AlterPlan>;
  /** Changes content, filter or what becomes of long texts; what that makes stale is embedded again. */
  alter(name: string, changes: SourceChanges, options?: ExecuteOptions): Promise<AlterPlan>;
  /** Keeps the vectors unless told otherwise, and says where they are. */
  remove(name: string, options?: ExecuteOptions & { readonly dropVectors?: boolean }): Promise<Removed>;
}

export function sourcesApi(connection: () => Promise<Connection>): SourcesApi {
  const ready = async () => (await connection()).ready();

  async function plan(definition: SourceDefinition): Promise<SourcePlan> {
    const { models, config } = await connection();
    const db = await ready();
    return planSource(db, withDefaults(db, definition), planModel(await models.get(definition.model), config));
  }

  async function apply(planned: SourcePlan, options: ApplyOptions = {}): Promise<void> {
    const db = await ready();
    if (planned.already) return;
    const to = { source: planned.source.name, purpose: 'probe' } as const;
    await embedText(await connection(), planned.space.spec, 'freshvec', { purpose: 'document', to });
    if (options.verify !== false) await verifyPlan(await connection(), planned);
    await applySource(db, planned, options);
  }

  return {
    plan,
    sql: planSql,
    verify: async (planned) => (planned.already ? undefined : verifyPlan(await connection(), planned)),
    apply,
    async add(definition, options) {
      const planned = await plan(definition);
      await apply(planned, options);
      return planned;
    },
    async list() {
      const db = await ready();
      const infos: SourceInfo[] = [];
      for (const source of await listSources(db)) infos.push(await describe(db, source));
      return infos;
    },
    async show(name) {
      const db = await ready();
      return describe(db, await getSource(db, name));
    },
    async longTexts(name) {
      const db = await ready();
      if (name !== undefined) await getSource(db, name);
      const keysOf = new Map((await listSources(db)).map((source) => [source.name, source.key]));
      const records = await listLongTexts(db, name);
      return records.map((record) => ({ ...record, key: keyValue(keysOf.get(record.source) ?? [], record.key) }));
    },
    planAlter: async (name, changes) => planAlter(await ready(), name, changes),
    alter: async (name, changes, options) => alterSource(await ready(), name, changes, options),
    remove: async (name, options) =>
      removeSource(await ready(), name, { ...options, dropVectors: options?.dropVectors ?? false }),
  };
}

/** HNSW builds slowly in the embedded database, where an exact search over 10,000 rows takes 10 ms. */
function withDefaults(db: Database, definition: SourceDefinition): SourceDefinition {
  return db.kind === 'pglite' ? { ...definition, index: definition.index ?? 'none' } : definition;
}

async function describe(db: Database, source: Source): Promise<SourceInfo> {
  const live = await liveSpace(db, source.id);
  const spaces = await listMaintainedSpaces(db, source.id);
  return {
    name: source.name,
    schema: source.relation.schema,
    table: source.relation.table,
    key: source.key,
    content: source.content,
    where: source.filter ?? null,
    tenant: source.tenantColumn ?? null,
    longTexts: source.longTexts,
    live: live ? { space: live.space.id, epoch: live.epoch } : null,
    spaces: spaces.map(({ sourceId: _, ...space }) => space),
  };
}
