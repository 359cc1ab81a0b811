import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { qualified } from '../db/identifiers.js';
import type { VectorRelation } from './own-index.js';

/** What an index measured when it was built, or was first looked at. */
export interface BuildRecord {
  /** 0 where it is not known. */
  readonly vectors: number;
  readonly bytes: number;
  /** Rows written to the table up to then. */
  readonly writes: number;
  readonly recall: number | null;
  readonly lookedMsAgo: number | null;
  readonly lookedWrites: number | null;
}

/**
 * Records an index that was just built, by its name at present: CREATE INDEX and REINDEX leave in the catalog how many
 * vectors they put in, until the next VACUUM or ANALYZE writes something else there.
 */
export async function recordBuild(
  db: Executor,
  space: Pick<Space, 'id'>,
  { oid, schema }: Pick<VectorRelation, 'oid' | 'schema'>,
  name: string,
): Promise<void> {
  await db.query(
    `INSERT INTO freshvec.index_build (space_id, relation_oid, vectors, bytes, writes)
     SELECT $1, $2::int8::oid, GREATEST(c.reltuples, 0)::bigint, pg_relation_size(c.oid), w.writes
     FROM pg_class c, (SELECT ${WRITES} AS writes FROM (VALUES (1)) one LEFT JOIN pg_stat_all_tables s ON s.relid = $2::int8::oid) w
     WHERE c.oid = to_regclass($3)
     ON CONFLICT (space_id, relation_oid) DO UPDATE SET built_at = now(), vectors = excluded.vectors, bytes = excluded.bytes,
       writes = excluded.writes, recall = NULL, looked_at = NULL, looked_writes = NULL`,
    [space.id, oid, qualified(schema, name)],
  );
}

/** Records that recall was looked at; `ofBuild` when so little was written since that it is that of the build. */
export async function recordLook(
  db: Executor,
  space: Pick<Space, 'id'>,
  relationOid: number,
  recall: number,
  { ofBuild }: { ofBuild: boolean },
): Promise<void> {
  await db.query(
    `INSERT INTO freshvec.index_build AS b (space_id, relation_oid, vectors, bytes, writes, recall, looked_at, looked_writes)
     SELECT $1, $2::int8::oid, 0, 0, w.writes, CASE WHEN $4 THEN $3::float4 END, clock_timestamp(), w.writes
     FROM (SELECT ${WRITES} AS writes FROM (VALUES (1)) one LEFT JOIN pg_stat_all_tables s ON s.relid = $2::int8::oid) w
     ON CONFLICT (space_id, relation_oid) DO UPDATE SET recall = COALESCE(excluded.recall, b.recall),
       looked_at = excluded.looked_at, looked_writes = excluded.looked_writes`,
    [space.id, relationOid, recall, ofBuild],
  );
}

export async function readBuild(db: Executor, spaceId: number, relationOid: number): Promise<BuildRecord | undefined> {
  const [row] = await db.query<{ [K in keyof BuildRecord]: BuildRecord[K] }>(
    `SELECT vectors, bytes, writes, recall::float8 AS recall, looked_writes AS "lookedWrites",
       1000 * EXTRACT(epoch FROM clock_timestamp() - looked_at)::float8 AS "lookedMsAgo"
     FROM freshvec.index_build WHERE space_id = $1 AND relation_oid = $2::int8::oid`,
    [spaceId, relationOid],
  );
  return row;
}

/** Rows written to a table since its statistics began. */
export async function writesOf(db: Executor, relationOid: number): Promise<number> {
  const [row] = await db.query<{ writes: number }>(
    `SELECT ${WRITES} AS writes FROM (VALUES (1)) one LEFT JOIN pg_stat_all_tables s ON s.relid = $1::int8::oid`,
    [relationOid],
  );
  return row?.writes ?? 0;
}

const WRITES = 'COALESCE(s.n_tup_ins + s.n_tup_upd + s.n_tup_del, 0)';
