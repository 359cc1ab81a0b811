import { dropFunctionsSql, dropTriggersSql } from '../capture/index.js';
import { getSource, listSources, type Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { dropFlagSql, dropSpaceSql } from '../store/index.js';
import { lockedTable } from './apply.js';
import { currentSource, lockSource } from './current.js';
import { NO_LOCK, type PlannedStatement } from './definition.js';
import { type ExecuteOptions, executeStatements } from './execute.js';
import { keepSql, keptNote } from './kept.js';
import { listSpaces } from './spaces.js';

export interface RemoveOptions extends ExecuteOptions {
  /** Also drop the vectors, for good; else the columns, or freshvec's table, stay. */
  readonly dropVectors: boolean;
}

/** What a removal left. */
export interface Removed {
  /** For a person: which vectors stay, and how to drop them. */
  readonly notes: readonly string[];
}

/** Takes a source away: triggers, functions and rows of the catalog at once, then what is left of its work. */
export async function removeSource(db: Database, name: string, options: RemoveOptions): Promise<Removed> {
  const recorded = await getSource(db, name);
  const current = await currentSource(db, recorded);
  const source = current ?? recorded;
  let kept: readonly Space[] = [];
  const removal = async (tx: Executor) => {
    await lockSource(tx, source.id);
    const spaces = await listSpaces(tx, source.id);
    // Columns went with their table; a table that has its name now is somebody else's.
    const there = spaces.filter((space) => current !== undefined || space.store !== 'column');
    kept = options.dropVectors ? [] : there;
    const dropped = options.dropVectors
      ? [...there.flatMap((space) => dropSpaceSql(source, space)), ...(current ? dropFlagSql(current) : [])]
      : [];
    return removalStatements(tx, source, { spaces, kept, dropped });
  };
  await executeStatements(db, current && (await lockedTable(db, current)), removal, options);
  await dropOrphans(db);
  return { notes: kept.map((space) => keptNote(source, space)) };
}

async function removalStatements(
  tx: Executor,
  source: Source,
  of: { readonly spaces: readonly Space[]; readonly kept: readonly Space[]; readonly dropped: readonly string[] },
): Promise<PlannedStatement[]> {
  const lock = `ACCESS EXCLUSIVE on ${source.relation.schema}.${source.relation.table}, for milliseconds`;
  const locking = (sql: string, why: string): PlannedStatement => ({ sql, lock, why });
  const spaceIds = of.spaces.map(({ id }) => id).join(', ');
  return [
    ...['failure', 'long_text', 'range'].map((table) => ({
      sql: `DELETE FROM freshvec.${table} WHERE space_id IN (${spaceIds || 'NULL'})`,
      lock: NO_LOCK,
      why: 'drops what was still to be done',
    })),
    ...(await dropTriggersSql(tx, source.id)).map((sql) => locking(sql, 'stops noticing what the app writes')),
    ...dropFunctionsSql(source.id).map((sql) => locking(sql, 'drops what the triggers did')),
    ...of.kept
      .filter(({ store }) => store === 'table')
      .flatMap((space) => keepSql(source, space))
      .map((sql) => ({ sql, lock: NO_LOCK, why: 'remembers the vectors that stay, and hides them' })),
    ...of.dropped.map((sql) => locking(sql, 'drops the vectors')),
    locking(`DELETE FROM freshvec.source WHERE id = ${source.id}`, 'forgets the source'),
  ];
}

/** Takes all sources away, vectors included; for `freshvec uninstall`. Resolves to their names. */
export async function uninstallSources(
  db: Database,
  options: RemoveOptions = { dropVectors: true },
): Promise<string[]> {
  const [schema] = await db.query<{ there: boolean }>(`SELECT to_regclass('freshvec.source') IS NOT NULL AS there`);
  if (!schema?.there) return [];
  const names = (await listSources(db)).map((source) => source.name);
  for (const name of names) await removeSource(db, name, options);
  return names;
}

/** Changes and leases of spaces that are gone, or dropped; of a removal that was killed right here, too. */
async function dropOrphans(db: Database): Promise<void> {
  for (const table of ['change', 'change_pack', 'lease']) {
    await db.query(
      `DELETE FROM freshvec.${table} o WHERE NOT EXISTS (
         SELECT FROM freshvec.space p WHERE p.id = o.space_id AND p.state <> 'dropped')`,
    );
  }
}
