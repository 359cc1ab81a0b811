import { readSpaceSpend } from '../budget/space-cap.js';
import { type Gate, latestMigration, type Migration, type Signal } from '../catalog/migration.js';
import { type Pause, pauseOf } from '../catalog/pause.js';
import { getSource } from '../catalog/source.js';
import { getSpace } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { MigrationMissing } from './errors.js';
import { loadProgress } from './progress.js';
import { oldReaders } from './readers.js';
import { endOfContraction } from './states.js';

/** How a migration stands, for people and programs to read. */
export interface MigrationStatus {
  readonly id: number;
  readonly source: string;
  readonly state: Migration['state'];
  readonly paused: boolean;
  /** Switches by itself once every gate holds. */
  readonly auto: boolean;
  /** The new vectors stand under the old ones' column names: `cutover --rename`. */
  readonly renamed: boolean;
  /** Why it waits, or is parked; null while it goes on. */
  readonly reason: string | null;
  /** Why nobody fills the new space: told to rest by a person, a spend cap or the provider. Null otherwise. */
  readonly resting: Pause | null;
  /** Fingerprints. */
  readonly from: string;
  readonly to: string;
  readonly spaces: { readonly from: number; readonly to: number };
  /** Eligible rows as the plan counted them. */
  readonly rows: number;
  /** Of these, rows that have their vector in the new space; by pages visited. */
  readonly done: number;
  /** Rows a second while the backfill was at work: pauses and rests do not count. Null before. */
  readonly rate: number | null;
  readonly etaSeconds: number | null;
  /** Part of the time that the backfill works, 0 to 1. */
  readonly share: number;
  readonly throttle: readonly Signal[];
  /** What the rows of the new space have cost so far, and may cost in all; null without a cap. */
  readonly spend: { readonly usd: number; readonly capUsd: number | null };
  readonly gates: readonly (Gate & { readonly accepted: boolean })[];
  /** Who still searches the old space after a switch. */
  readonly readers: readonly string[];
  readonly startedAt: string;
  readonly switchedAt: string | null;
  readonly endedAt: string | null;
  readonly events: readonly { readonly at: string; readonly state: string; readonly what: string }[];
}

/** The source's migration that is under way, else its last one. Throws MigrationMissing where there was none. */
export async function migrationStatus(db: Database, sourceName: string): Promise<MigrationStatus> {
  const source = await getSource(db, sourceName);
  const migration = await latestMigration(db, source.id);
  if (!migration) throw new MigrationMissing(sourceName);
  const [from, to] = [await getSpace(db, migration.fromSpaceId), await getSpace(db, migration.toSpaceId)];
  const filling = migration.state === 'backfilling' || migration.parkedState === 'backfilling';
  const share = filling ? (await loadProgress(db, source, migration.toSpaceId)).share : isFilled(migration) ? 1 : 0;
  const done = Math.round(migration.rows * share);
  const gained = migration.rows * (share - migration.filledBefore);
  const rate = !filling || migration.worked <= 0 || gained < 1 ? null : gained / migration.worked;
  return {
    id: migration.id,
    source: source.name,
    state: migration.state,
    paused: migration.paused,
    auto: migration.auto,
    renamed: migration.renamed,
    reason: migration.reason ?? (await uncontrolled(db, migration)) ?? null,
    resting: (filling && (await pauseOf(db, { sourceId: source.id, spaceId: migration.toSpaceId }))) || null,
    from: from?.fingerprint ?? `space ${migration.fromSpaceId}`,
    to: to?.fingerprint ?? migration.target.fingerprint,
    spaces: { from: migration.fromSpaceId, to: migration.toSpaceId },
    rows: migration.rows,
    done,
    rate: rate === null ? null : Math.round(rate * 10) / 10,
    etaSeconds: rate === null ? null : Math.round((migration.rows - done) / rate),
    share: migration.share,
    throttle: isThrottled(migration) ? migration.throttle : [],
    spend: await spendOf(db, migration.toSpaceId),
    gates: migration.gates.map((gate) => ({ ...gate, accepted: migration.accepted.includes(gate.name) })),
    readers: await oldReaders(db, source.id),
    startedAt: migration.createdAt,
    switchedAt: migration.switchedAt ?? null,
    endedAt: migration.endedAt ?? null,
    events: await listEvents(db, migration.id),
  };
}

/** Seconds after which a process with the role `reembed` would have taken a migration up, or gone on with it. */
const TAKEN_UP_SECONDS = 15;
/** States that want one all the time. */
const CONTROLLED: readonly Migration['state'][] = ['planned', 'expanding', 'backfilling', 'indexing', 'contracting'];

/** Nobody carries it out, in words; its controllers hold a lease row. */
async function uncontrolled(db: Executor, { id, state, paused }: Migration): Promise<string | undefined> {
  if (paused || !CONTROLLED.includes(state)) return undefined;
  const [row] = await db.query<{ alone: boolean }>(
    `SELECT NOT EXISTS (SELECT FROM freshvec.singleton s
         WHERE s.name = 'reembed:' || m.id AND s.expires_at > clock_timestamp())
       AND GREATEST(m.throttled_at, (SELECT max(e.at) FROM freshvec.migration_event e WHERE e.migration_id = m.id))
         < clock_timestamp() - make_interval(secs => $2) AS alone
     FROM freshvec.migration m WHERE m.id = $1`,
    [id, TAKEN_UP_SECONDS],
  );
  if (!row?.alone) return undefined;
  return 'no process with the role `reembed` carries it out: start one (`freshvec up`, or `workers/reembed`)';
}

async function spendOf(db: Executor, spaceId: number): Promise<MigrationStatus['spend']> {
  const { usd, capUsd = null } = await readSpaceSpend(db, spaceId);
  return { usd, capUsd };
}

/** Rows are written for the move, as fast as the throttle lets it. */
export function isThrottled({ state }: Pick<Migration, 'state'>): boolean {
  return state === 'backfilling' || state === 'contracting';
}

function isFilled(migration: Migration): boolean {
  const state = migration.parkedState ?? migration.state;
  if (state === 'aborted' || (state === 'contracting' && endOfContraction(migration) === 'aborted')) return false;
  return state !== 'planned' && state !== 'expanding';
}

async function listEvents(db: Executor, id: number): Promise<MigrationStatus['events']> {
  return db.query<{ at: string; state: string; what: string }>(
    `SELECT to_json(at)#>>'{}' AS at, state, what FROM freshvec.migration_event WHERE migration_id = $1 ORDER BY id`,
    [id],
  );
}
