import type { Database, Executor, VectorExtension } from '../db/database.js';
import { classify, FreshvecError, privilegeMissing, sqlState } from '../db/errors.js';
import { ident, literal } from '../db/identifiers.js';
import { ensureVectorExtension } from './pgvector.js';
import { type SchemaFile, schemaFiles } from './schema-files.js';
import { getSetting, recordSetting } from './settings.js';

export type QueueBackend = 'redis' | 'postgres' | 'pglite';

export interface Migration {
  readonly version: number;
  readonly name: string;
}

export interface SchemaStatus {
  /** Newest migration that is applied; 0 before the first. */
  readonly current: number;
  /** Newest migration that this code knows. */
  readonly latest: number;
  readonly pending: Migration[];
  /** Applied migrations that this code does not know and that are marked breaking. */
  readonly tooNew: Migration[];
  readonly queueBackend?: QueueBackend;
  /** This code may work on this database. */
  readonly compatible: boolean;
}

interface AppliedMigration extends Migration {
  readonly breaking: boolean;
  readonly checksum: string;
}

const OLDEST_SERVER = 15;
/** Key of the transaction-level advisory lock that keeps two `schema apply` apart: "freshvec" as eight ASCII bytes. */
const APPLY_LOCK = '7382074285561898339';

/**
 * Brings freshvec's own schema to the newest version that this code knows, and records the queue backend. Each
 * migration is one transaction under an advisory lock, so it may run twice, at once, and be killed at any time.
 */
export async function applySchema(
  db: Database,
  { queueBackend }: { queueBackend: QueueBackend },
): Promise<{ applied: Migration[]; current: number }> {
  const files = schemaFiles();
  await checkServer(db);
  const extension = await ensureVectorExtension(db);
  await db.tx(async (tx) => {
    await lock(tx);
    await createVersionTable(tx);
    const before = await readApplied(tx);
    refuseTooNew(files, before);
    if (before.length > 0) refuseOtherBackend(await getSetting(tx, 'queue_backend'), queueBackend);
  });
  const applied: Migration[] = [];
  for (const file of files) if (await applyFile(db, file, extension)) applied.push(pick(file));
  refuseOtherBackend(await db.tx((tx) => recordSetting(tx, 'queue_backend', queueBackend)), queueBackend);
  return { applied, current: (await schemaStatus(db)).current };
}

export async function schemaStatus(db: Executor): Promise<SchemaStatus> {
  const files = schemaFiles();
  const applied = await readApplied(db);
  const versions = new Set(applied.map(({ version }) => version));
  const pending = files.filter(({ version }) => !versions.has(version)).map(pick);
  const tooNew = unknownBreaking(files, applied).map(pick);
  const recorded = versions.has(1) ? await getSetting(db, 'queue_backend') : undefined;
  return {
    current: Math.max(0, ...versions),
    latest: files.at(-1)?.version ?? 0,
    pending,
    tooNew,
    ...(isBackend(recorded) ? { queueBackend: recorded } : {}),
    compatible: pending.length === 0 && tooNew.length === 0,
  };
}

/**
 * Throws unless this code may work on this database: FreshvecError `schema_missing`, `schema_outdated`,
 * `schema_too_new`, `queue_backend_mismatch` or `privilege_missing`. Newer migrations that are marked safe are no hindrance.
 */
export async function assertSchema(db: Executor, options: { queueBackend?: QueueBackend } = {}): Promise<void> {
  const { current, pending, tooNew, queueBackend } = await schemaStatus(db).catch((error: unknown) => {
    throw classify(error) === 'privilege' ? privilegeMissing(error) : error;
  });
  if (current === 0) {
    throw new FreshvecError('schema_missing', 'freshvec is not set up in this database. Run `freshvec schema apply`.');
  }
  if (tooNew.length > 0) throw schemaTooNew(tooNew);
  if (pending.length > 0) {
    throw new FreshvecError(
      'schema_outdated',
      `freshvec's schema in this database is older than this version of freshvec: ${names(pending)} not applied yet. ` +
        'Run `freshvec schema apply`.',
    );
  }
  if (options.queueBackend !== undefined) refuseOtherBackend(queueBackend, options.queueBackend);
}

/** Removes freshvec's and BullMQ's schemas with all that is in them; triggers and columns of sources must be gone. */
export async function dropSchema(db: Database): Promise<void> {
  await db.tx(async (tx) => {
    await lock(tx);
    await tx.query('DROP SCHEMA IF EXISTS freshvec_bullmq CASCADE');
    await tx.query('DROP SCHEMA IF EXISTS freshvec CASCADE');
  });
}

/** False when it is applied already. */
function applyFile(db: Database, file: SchemaFile, extension: VectorExtension): Promise<boolean> {
  return db.tx(async (tx) => {
    await lock(tx);
    const before = (await readApplied(tx)).find(({ version }) => version === file.version);
    if (before) {
      refuseAltered(file, before);
      return false;
    }
    await tx.query(`SET LOCAL search_path = freshvec, ${ident(extension.schema)}, pg_catalog`);
    // EXECUTE takes many statements, which the extended protocol does not.
    await tx.query(`DO ${literal(`BEGIN EXECUTE ${literal(file.sql)}; END`)}`);
    await tx.query('INSERT INTO freshvec.schema_version (version, name, breaking, checksum) VALUES ($1, $2, $3, $4)', [
      file.version,
      file.name,
      file.breaking,
      file.checksum,
    ]);
    return true;
  });
}

async function lock(tx: Executor): Promise<void> {
  await tx.query(`SELECT pg_advisory_xact_lock(${APPLY_LOCK})`);
}

async function createVersionTable(tx: Executor): Promise<void> {
  const [there] = await tx.query(`SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'freshvec'`);
  if (!there) await tx.query('CREATE SCHEMA freshvec').catch(refuseWithoutPrivilege);
  await tx.query(
    `CREATE TABLE IF NOT EXISTS freshvec.schema_version (
       version int PRIMARY KEY,
       name text NOT NULL,
       breaking boolean NOT NULL,
       checksum text NOT NULL,
       applied_at timestamptz NOT NULL DEFAULT now()
     )`,
  );
}

async function readApplied(db: Executor): Promise<AppliedMigration[]> {
  const [there] = await db.query(
    `SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = 'freshvec' AND c.relname = 'schema_version'`,
  );
  if (!there) return [];
  return db.query<{ version: number; name: string; breaking: boolean; checksum: string }>(
    'SELECT version, name, breaking, checksum FROM freshvec.schema_version ORDER BY version',
  );
}

async function checkServer(db: Executor): Promise<void> {
  const [row] = await db.query<{ version: number; name: string }>(
    `SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS name`,
  );
  if (row && row.version < OLDEST_SERVER * 10_000) {
    throw new FreshvecError(
      'postgres_too_old',
      `This server is PostgreSQL ${row.name}; freshvec needs ${OLDEST_SERVER} or later and is tested on 17 and 18.`,
    );
  }
}

function refuseWithoutPrivilege(error: unknown): never {
  if (sqlState(error) !== '42501') throw error;
  throw new FreshvecError(
    'privilege_missing',
    'This role may not create the schema freshvec. Let an administrator run GRANT CREATE ON DATABASE … TO it, ' +
      'or run `freshvec schema apply` as the owner of the database.',
    { cause: error },
  );
}

function unknownBreaking(files: readonly SchemaFile[], applied: readonly AppliedMigration[]): AppliedMigration[] {
  const known = new Set(files.map(({ version }) => version));
  return applied.filter(({ version, breaking }) => breaking && !known.has(version));
}

function refuseTooNew(files: readonly SchemaFile[], applied: readonly AppliedMigration[]): void {
  const tooNew = unknownBreaking(files, applied);
  if (tooNew.length > 0) throw schemaTooNew(tooNew);
}

function schemaTooNew(tooNew: readonly Migration[]): FreshvecError {
  return new FreshvecError(
    'schema_too_new',
    `A newer freshvec has changed this database in a way that this version cannot work with (${names(tooNew)}). ` +
      'Use that newer version of freshvec here too.',
  );
}

function refuseAltered(file: SchemaFile, before: AppliedMigration): void {
  if (before.name === file.name && before.checksum === file.checksum) return;
  throw new FreshvecError(
    'schema_altered',
    `Migration ${names([before])} was applied to this database with another text than this package has. ` +
      'Migrations never change: install a released version of freshvec, or uninstall and apply anew.',
  );
}

function refuseOtherBackend(recorded: string | undefined, configured: QueueBackend): void {
  if (recorded === undefined || recorded === configured) return;
  throw new FreshvecError(
    'queue_backend_mismatch',
    `This database was set up with the queue backend "${recorded}", but this process is configured for "${configured}" ` +
      '(REDIS_URL given means redis). Configure every process alike; to change the backend, stop them all and run ' +
      `UPDATE freshvec.setting SET value = '${configured}' WHERE name = 'queue_backend'. Nothing is lost: the queue only carries wake-ups.`,
  );
}

function isBackend(value: string | undefined): value is QueueBackend {
  return value === 'redis' || value === 'postgres' || value === 'pglite';
}

function pick({ version, name }: Migration): Migration {
  return { version, name };
}

function names(migrations: readonly Migration[]): string {
  return migrations.map(({ version, name }) => `${String(version).padStart(4, '0')}_${name}`).join(', ');
}
