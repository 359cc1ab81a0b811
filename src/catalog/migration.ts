import type { Executor, StatementOptions } from '../db/database.js';
import { type Space, type SpaceRow, toSpace } from './space.js';

export const MIGRATION_STATES = [
  'planned',
  'expanding',
  'backfilling',
  'indexing',
  'verifying',
  'ready',
  'soaking',
  'rolled_back',
  'contracting',
  'done',
  'aborted',
  'parked',
] as const;
export type MigrationState = (typeof MIGRATION_STATES)[number];

/** What was measured before a switch, and whether it is good enough. */
export interface Gate {
  readonly name: string;
  readonly passed: boolean;
  /** What was measured, in the gate's own unit; null where it could not be. */
  readonly value: number | string | null;
  readonly bound: number | string | null;
  /** Only for information: it holds nothing back. */
  readonly advisory?: boolean;
  /** In words: what the value means, and what to do. */
  readonly note?: string;
}

/** One thing that the database feels, as it was last read. */
export interface Signal {
  readonly name: string;
  /** `unknown`: it could not be read, which slows down as well. */
  readonly state: 'fine' | 'pressed' | 'unknown';
  readonly value: number | null;
  readonly bound: number;
  readonly unit: string;
  readonly note?: string;
}

/** A labelled query: its text and the keys that answer it. */
export interface LabelledQuery {
  readonly query: string;
  /** Whose rows are searched; all rows without one. */
  readonly tenant?: string;
  readonly relevant: readonly string[];
}

/** A source on its way from one space to another. */
export interface Migration {
  readonly id: number;
  readonly sourceId: number;
  readonly fromSpaceId: number;
  readonly toSpaceId: number;
  /** The new space as planned. */
  readonly target: Space;
  readonly state: MigrationState;
  readonly token: string | undefined;
  /** While parked: the state to go on from. */
  readonly parkedState: MigrationState | undefined;
  readonly reason: string | undefined;
  readonly paused: boolean;
  /** The two spaces have exchanged their columns' names: a rollback changes them back. */
  readonly renamed: boolean;
  /** Switches by itself once every gate holds. */
  readonly auto: boolean;
  /** Share of the rows after which the backfill rests; 1 without such a bound. */
  readonly until: number;
  /** Seconds that the old space is kept after the switch; undefined: until somebody completes. */
  readonly retainSeconds: number | undefined;
  readonly dropSpaceId: number | undefined;
  readonly accepted: readonly string[];
  readonly queries: readonly LabelledQuery[];
  /** Eligible rows as the plan counted them. */
  readonly rows: number;
  readonly share: number;
  readonly throttle: readonly Signal[];
  /** Seconds that the present backfill was at work. */
  readonly worked: number;
  /** Share of the rows that were there when it began, 0 to 1. */
  readonly filledBefore: number;
  readonly gates: readonly Gate[];
  readonly tries: number;
  readonly createdAt: string;
  readonly switchedAt: string | undefined;
  readonly endedAt: string | undefined;
}

/** Nothing happens to it any more. */
export function hasEnded({ state }: Pick<Migration, 'state'>): boolean {
  return state === 'done' || state === 'aborted';
}

type MigrationRow = {
  id: number;
  source_id: number;
  from_space: number;
  to_space: number;
  target: SpaceRow;
  state: MigrationState;
  token: string | null;
  parked_state: MigrationState | null;
  reason: string | null;
  paused: boolean;
  renamed: boolean;
  auto: boolean;
  until: number | null;
  retain_seconds: number | null;
  drop_space: number | null;
  accepted: string[];
  queries: LabelledQuery[] | null;
  rows: number;
  share: number;
  throttle: Signal[];
  worked: number;
  filled_before: number;
  gates: Gate[];
  tries: number;
  created_at: string;
  switched_at: string | null;
  ended_at: string | null;
};

const COLUMNS = `m.id, m.source_id, m.from_space, m.to_space, m.target, m.state, m.token::text, m.parked_state, m.reason, m.paused, m.renamed,
  m.auto, m.until, extract(epoch FROM m.retain)::float8 AS retain_seconds, m.drop_space, m.accepted, m.queries,
  m.rows, m.share, m.throttle, m.worked, m.filled_before, m.gates, m.tries, to_json(m.created_at)#>>'{}' AS created_at,
  to_json(m.switched_at)#>>'{}' AS switched_at, to_json(m.ended_at)#>>'{}' AS ended_at`;

function toMigration(row: MigrationRow): Migration {
  return {
    id: row.id,
    sourceId: row.source_id,
    fromSpaceId: row.from_space,
    toSpaceId: row.to_space,
    target: toSpace(row.target),
    state: row.state,
    token: row.token ?? undefined,
    parkedState: row.parked_state ?? undefined,
    reason: row.reason ?? undefined,
    paused: row.paused,
    renamed: row.renamed,
    auto: row.auto,
    until: row.until ?? 1,
    retainSeconds: row.retain_seconds ?? undefined,
    dropSpaceId: row.drop_space ?? undefined,
    accepted: row.accepted,
    queries: row.queries ?? [],
    rows: row.rows,
    share: row.share,
    throttle: row.throttle,
    worked: row.worked,
    filledBefore: row.filled_before,
    gates: row.gates,
    tries: row.tries,
    createdAt: row.created_at,
    switchedAt: row.switched_at ?? undefined,
    endedAt: row.ended_at ?? undefined,
  };
}

export async function getMigration(db: Executor, id: number): Promise<Migration | undefined> {
  const [row] = await db.query<MigrationRow>(`SELECT ${COLUMNS} FROM freshvec.migration m WHERE m.id = $1`, [id]);
  return row && toMigration(row);
}

/** The source's migration that is under way, else its last one. */
export async function latestMigration(
  db: Executor,
  sourceId: number,
  options?: StatementOptions,
): Promise<Migration | undefined> {
  const [row] = await db.query<MigrationRow>(
    `SELECT ${COLUMNS} FROM freshvec.migration m WHERE m.source_id = $1 ORDER BY m.id DESC LIMIT 1`,
    [sourceId],
    options,
  );
  return row && toMigration(row);
}

/** The same by the source's name, as it is once it is free; nobody moves it until the transaction ends. */
export async function holdLatestMigration(tx: Executor, sourceName: string): Promise<Migration | undefined> {
  const [row] = await tx.query<MigrationRow>(
    `SELECT ${COLUMNS} FROM freshvec.migration m
     WHERE m.id = (SELECT max(l.id) FROM freshvec.migration l JOIN freshvec.source s ON s.id = l.source_id WHERE s.name = $1)
     FOR NO KEY UPDATE OF m`,
    [sourceName],
  );
  return row && toMigration(row);
}

/** Migrations that a controller may have something to do for, oldest first. `fresh`: a person has just spoken. */
export async function listOpenMigrations(db: Executor): Promise<{ id: number; fresh: boolean }[]> {
  return db.query<{ id: number; fresh: boolean }>(
    `SELECT id, token IS NULL AS fresh FROM freshvec.migration
     WHERE state NOT IN ('done', 'aborted', 'parked') AND NOT paused ORDER BY id`,
  );
}

/** How long a controller's word on the throttle is good for, in s; after that the backfill goes at its slowest. */
const THROTTLE_SECONDS = 15;
/** Share of the time that a backfill works while nobody looks at what the database feels. */
export const SLOWEST_SHARE = 0.1;

/**
 * SQL: the migration `m` still fills its new space or has yet to check it, or rests on the way there. Once searches have
 * been answered from that space it is as any other, whatever becomes of the migration: paused, parked, dropping the old.
 */
const FILLS_SQL = `(COALESCE(m.parked_state, m.state) NOT IN ('soaking', 'rolled_back', 'contracting', 'done', 'aborted')
  OR COALESCE(m.parked_state, m.state) = 'contracting' AND m.drop_space = m.to_space)`;

/**
 * Which part of the time the pages of a space may be worked on: 1 where no migration holds it back, 0 while the one that
 * fills it is paused or parked, or drops it. Only while it backfills does somebody look at what the database feels.
 */
export async function loadShare(db: Executor, spaceId: number): Promise<number> {
  const [row] = await db.query<{ share: number }>(
    `SELECT CASE WHEN m.paused OR m.state IN ('parked', 'contracting') THEN 0
         WHEN m.state <> 'backfilling' THEN $3
         WHEN m.throttled_at > clock_timestamp() - make_interval(secs => $2) THEN m.share
         ELSE least(m.share, $3) END::float8 AS share
     FROM freshvec.migration m WHERE m.to_space = $1 AND ${FILLS_SQL}`,
    [spaceId, THROTTLE_SECONDS, SLOWEST_SHARE],
  );
  return row?.share ?? 1;
}

/** SQL: the pages of the space `s` may be visited: no migration that rests fills it. */
export const LOADS_SQL = `NOT EXISTS (SELECT FROM freshvec.migration m WHERE m.to_space = s.id
  AND ${FILLS_SQL} AND (m.paused OR m.state IN ('parked', 'contracting') OR (m.state = 'backfilling' AND m.share = 0)))`;

/** Whether a migration still fills this space, or has yet to check it. */
export async function isMigrating(db: Executor, spaceId: number): Promise<boolean> {
  const rows = await db.query(`SELECT 1 FROM freshvec.migration m WHERE m.to_space = $1 AND ${FILLS_SQL}`, [spaceId]);
  return rows.length > 0;
}

/**
 * SQL for an `alter` of the source: a move whose new space was being checked, or was found good, goes back to filling it.
 * Its controller loses it: what that one measured was of the definition before.
 */
export function recedeSql(sourceId: number): string {
  return `WITH back AS (
  UPDATE freshvec.migration SET token = NULL, tries = 0, worked = 0, throttled_at = NULL,
    state = CASE state WHEN 'parked' THEN state ELSE 'backfilling' END,
    parked_state = CASE state WHEN 'parked' THEN 'backfilling' END,
    reason = CASE state WHEN 'parked' THEN reason END
  WHERE source_id = ${sourceId} AND COALESCE(parked_state, state) IN ('verifying', 'ready')
  RETURNING id, state, to_space
), building AS (
  UPDATE freshvec.space SET state = 'building' WHERE id IN (SELECT to_space FROM back) AND state = 'ready'
)
INSERT INTO freshvec.migration_event (migration_id, state, what)
SELECT id, state, 'the source was altered: every row is visited and checked again' FROM back`;
}
