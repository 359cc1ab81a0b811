import { LOADS_SQL } from '../catalog/migration.js';
import { notPausedSql } from '../catalog/pause.js';
import { MAINTAINED_STATES } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { literal } from '../db/identifiers.js';
import { LANES } from './lease.js';

/** SQL: the space `s` is maintained, and neither it nor its source is paused. */
const WORKED_ON = `s.state IN (${MAINTAINED_STATES.map(literal).join(', ')}) AND ${notPausedSql('s')}`;

export interface Look {
  /** Maintained spaces with something to claim now and no pause, oldest space first. */
  readonly spaceIds: readonly number[];
  /** Every change up to this id is claimed, seen in this look, or not committed yet. */
  readonly upToId: number;
}

/**
 * Looks for work. `fromId` spares reading the dead rows of claimed changes, which a held snapshot keeps; changes that
 * committed late below it, and leases whose worker went silent, are found by a look from 0.
 */
export async function lookForWork(db: Executor, fromId: number): Promise<Look> {
  const [sequence] = await db.query<{ id: number | null }>(
    `SELECT pg_sequence_last_value(pg_get_serial_sequence('freshvec.change', 'id')::regclass) AS id`,
  );
  const rows = await db.query<{ id: number }>(
    `SELECT s.id FROM freshvec.space s
     WHERE ${WORKED_ON} AND (
       EXISTS (SELECT FROM freshvec.change c WHERE c.space_id = s.id AND c.lane = 0 AND c.id >= $1::bigint)
       OR EXISTS (SELECT FROM freshvec.change c WHERE c.space_id = s.id AND c.lane = 1 AND c.id >= $1::bigint)
       OR EXISTS (SELECT FROM freshvec.change_pack c WHERE c.space_id = s.id AND c.id >= $1::bigint)
       OR EXISTS (SELECT FROM freshvec.lease l WHERE l.space_id = s.id AND l.token IS NULL AND l.expires_at <= clock_timestamp())
       OR ($1::bigint = 0 AND EXISTS (SELECT FROM freshvec.lease l WHERE l.space_id = s.id AND l.token IS NOT NULL AND l.expires_at <= clock_timestamp()))
       OR (EXISTS (SELECT FROM freshvec.range r WHERE r.space_id = s.id) AND ${LOADS_SQL}))
     ORDER BY s.id`,
    [fromId],
  );
  return { spaceIds: rows.map((row) => row.id), upToId: sequence?.id ?? 0 };
}

/** Ids of the maintained spaces that are not paused. */
export async function listActiveSpaces(db: Executor): Promise<number[]> {
  const rows = await db.query<{ id: number }>(
    `SELECT s.id FROM freshvec.space s
     WHERE ${WORKED_ON} ORDER BY s.id`,
  );
  return rows.map(({ id }) => id);
}

/** Milliseconds until the next waiting key of a maintained space is due, in other spaces than these; undefined when none waits. */
export async function nextDueMs(db: Executor, exceptSpaceIds: readonly number[] = []): Promise<number | undefined> {
  const [row] = await db.query<{ ms: number | null }>(
    `SELECT (extract(epoch FROM min(l.expires_at) - clock_timestamp()) * 1000)::float8 AS ms
     FROM freshvec.lease l JOIN freshvec.space s ON s.id = l.space_id
     WHERE l.token IS NULL AND l.space_id <> ALL($1::int[]) AND ${WORKED_ON}`,
    [exceptSpaceIds],
  );
  return typeof row?.ms !== 'number' ? undefined : Math.max(0, row.ms);
}

/** Of a lane's changes, those that came last: what is given back goes to the end of the line, as old as it is. */
const GIVEN_BACK = 200;

/** SQL: since when the oldest key of a space waits, changes, packs and leases together; NULL where none does. */
export function oldestSinceSql(spaceId: string): string {
  const lane = (
    n: number,
  ) => `(SELECT at FROM freshvec.change WHERE space_id = ${spaceId} AND lane = ${n} ORDER BY id LIMIT 1),
         (SELECT min(at) FROM (SELECT at FROM freshvec.change WHERE space_id = ${spaceId} AND lane = ${n} ORDER BY id DESC LIMIT ${GIVEN_BACK}) c)`;
  return `LEAST(${Object.values(LANES).map(lane).join(',\n         ')},
         (SELECT at FROM freshvec.change_pack WHERE space_id = ${spaceId} ORDER BY id LIMIT 1),
         (SELECT min(since) FROM freshvec.lease WHERE space_id = ${spaceId}))`;
}

/** Ranges of pages of a space's first load that nobody is done with. */
export async function countLoadRanges(db: Executor, spaceId: number): Promise<number> {
  const [row] = await db.query<{ ranges: number }>(
    `SELECT count(*) AS ranges FROM freshvec.range WHERE space_id = $1 AND purpose = 'load'`,
    [spaceId],
  );
  return row?.ranges ?? 0;
}

/** Rows that may still be on their way when a first pass counts as done. */
const STRAGGLERS = 1000;

/** Whether the first pass over a space's rows is done: what is left is what edits bring. */
export async function isLoaded(db: Executor, spaceId: number): Promise<boolean> {
  const [row] = await db.query<{ loaded: boolean }>(
    `SELECT NOT EXISTS (SELECT FROM freshvec.range WHERE space_id = $1 AND purpose = 'load')
       AND (SELECT count(*) FROM (SELECT FROM freshvec.lease WHERE space_id = $1 LIMIT $2 + 1) l) <= $2
       AND (SELECT count(*) FROM (SELECT FROM freshvec.change_key WHERE space_id = $1 LIMIT $2 + 1) c) <= $2 AS loaded`,
    [spaceId, STRAGGLERS],
  );
  return row?.loaded ?? false;
}
