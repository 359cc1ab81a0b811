import type { Space } from '../../catalog/space.js';
import type { Executor } from '../../db/database.js';
import { qualified } from '../../db/identifiers.js';
import { noBuild } from '../../db/index-builds.js';
import { dropUnderLock } from '../../source/index.js';
import { longSession } from '../../store/index-session.js';
import { indexName } from '../../store/index-state.js';
import { NEXT } from '../../store/own-index.js';
import type { StepContext } from '../operation.js';

const TRY_MS = 20_000;

type IndexRow = {
  schema: string;
  name: string;
  oid: number;
  /** Of its table. */
  table: number;
  partitioned: boolean;
  building: boolean;
};

/**
 * Drops the indexes of a space that freshvec made, concurrently; on a partitioned table under a brief lock, since
 * PostgreSQL has no other way. A build that is still running is ended first. Somebody else's index on the column goes
 * with the column.
 */
export async function dropIndex({ db, source, signal }: StepContext, space: Space): Promise<void> {
  for (const index of await ownIndexes(db, source.relation.oid, space)) {
    const name = qualified(index.schema, index.name);
    if (index.building) await endBuild(db, index.oid);
    if (index.partitioned || db.kind === 'pglite') {
      await dropUnderLock(db, source, name, { giveUpMs: TRY_MS });
      continue;
    }
    await noBuild(db, index.table, signal);
    await longSession(db, { lockTimeoutMs: 0, signal }, (session) =>
      session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${name}`),
    );
  }
}

/** Ends builds of a space's indexes that go on although their controller is gone: they hold the table. */
export async function endBuilds({ db, source }: Pick<StepContext, 'db' | 'source'>, space: Space): Promise<void> {
  for (const { oid, building } of await ownIndexes(db, source.relation.oid, space)) {
    if (building) await endBuild(db, oid);
  }
}

/** Those of leaves that hang on a parent's go with it. */
async function ownIndexes(db: Executor, tableOid: number, space: Space): Promise<IndexRow[]> {
  return db.query<IndexRow>(
    `SELECT n.nspname AS schema, c.relname AS name, c.oid::int8 AS oid, i.indrelid::int8 AS "table", c.relkind = 'I' AS partitioned,
       EXISTS (SELECT FROM pg_stat_progress_create_index p
         WHERE p.index_relid = c.oid AND p.datname = current_database()) AS building
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE (i.indrelid = $1::oid OR i.indrelid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass)))
       AND c.relname ~ ('^' || $2 || '(_' || i.indrelid || ')?(' || $3 || ')?(_gone_[0-9]+)?$')
       AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid)
     ORDER BY c.relkind = 'I' DESC, c.oid`,
    [tableOid, indexName(space), NEXT],
  );
}

/** Of this index alone: the app may be building one of its own on the table. Oids are the same in other databases. */
async function endBuild(db: Executor, index: number): Promise<void> {
  await db.query(
    `SELECT pg_cancel_backend(pid) FROM pg_stat_progress_create_index
     WHERE index_relid = $1::oid AND datname = current_database()`,
    [index],
  );
}
