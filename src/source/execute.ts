import { setTimeout as sleep } from 'node:timers/promises';
import { dollarQuote } from '../capture/index.js';
import type { Database, Executor } from '../db/database.js';
import { classify, FreshvecError, sqlState } from '../db/errors.js';
import { findBuild } from '../db/index-builds.js';
import { NO_LOCK, type PlannedStatement } from './definition.js';

export interface ExecuteOptions {
  /** Told before each wait. */
  readonly onRetry?: ((attempt: number, reason: string) => void) | undefined;
  /** How long to go on trying; 10 minutes by default. */
  readonly giveUpMs?: number | undefined;
}

export interface LockedTable {
  readonly oid: number;
  /** Quoted, with its schema. */
  readonly name: string;
  /** How many tables the lock takes: the table and its partitions. */
  readonly relations: number;
}

/** SQLSTATE. */
const LOCK_NOT_AVAILABLE = '55P03';
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 30_000;
const GIVE_UP_MS = 600_000;
/** lock_timeout counts per lock, so a statement_timeout bounds them all. */
const LOCK_MS = 80;
const STATEMENT_MS = 90;
/** What a partition adds to the time that the statements themselves take. */
const PARTITION_MS = 5;
/** A busy table is free for moments only: so long one try looks for such a moment, and so long it rests between looks. */
const LOOK_FOR_MS = 1_000;
const LOOK_MS = 2;
/** A vacuum gives way to who has waited for `deadlock_timeout`; how much longer is waited for it. */
const VACUUM_ENDS_MS = 1_000;

/** For how long one try may wait for and hold the lock of a table and its partitions, in ms. */
export function lockBudgetMs(relations: number): number {
  return STATEMENT_MS + PARTITION_MS * (relations - 1);
}

/** What to run; a function finds it out in each try's transaction, and may do what needs no lock itself. */
export type Statements = readonly PlannedStatement[] | ((tx: Executor) => Promise<readonly PlannedStatement[]>);

/**
 * Runs statements in one transaction that holds the app's table for one round trip: those without a lock first, then
 * the lock, or an error at once if it is not free, then the rest as one block under a time limit. Whoever waited for a
 * lock here would have every later query of the app wait behind it, so what does not get through is rolled back and
 * made again, hundreds of times within a second, and then with pauses. Autovacuum, which may hold a table with a vector
 * index for minutes, gives way only to who waits: that wait is for a lock that no reader or writer minds.
 */
export async function executeStatements(
  db: Database,
  table: LockedTable | undefined,
  statements: Statements,
  { onRetry, giveUpMs = GIVE_UP_MS }: ExecuteOptions = {},
): Promise<void> {
  const deadline = Date.now() + giveUpMs;
  for (let attempt = 1, pauseMs = FIRST_PAUSE_MS; ; attempt++, pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    try {
      return await db.tx((tx) => attemptOnce(tx, table, statements, deadline));
    } catch (error) {
      const failure = classify(error);
      if (failure !== 'lock_timeout' && failure !== 'retry') throw error;
      const holders = table ? await lockHolders(db, table.oid) : [];
      if (Date.now() + pauseMs > deadline) throw gaveUp(table, holders, giveUpMs, error);
      onRetry?.(
        attempt,
        `${table?.name ?? 'a table'} is in use${holders.length > 0 ? ` by ${holders.join(', ')}` : ''}`,
      );
      await sleep(pauseMs * (0.5 + Math.random() / 2));
    }
  }
}

async function attemptOnce(
  tx: Executor,
  table: LockedTable | undefined,
  planned: Statements,
  deadline: number,
): Promise<void> {
  const statements = typeof planned === 'function' ? await planned(tx) : planned;
  const first = statements.findIndex(({ lock }) => lock !== NO_LOCK);
  const free = first < 0 || table === undefined ? statements : statements.slice(0, first);
  const locks = free.length < statements.length && table !== undefined;
  if (locks) await endVacuum(tx, table);
  for (const { sql } of free) await tx.query(sql);
  if (!locks) return;
  const locking = statements.slice(first);
  const mode = locking.some(({ lock }) => lock.startsWith('ACCESS EXCLUSIVE'))
    ? 'ACCESS EXCLUSIVE'
    : 'SHARE ROW EXCLUSIVE';
  // A commit holds its locks until a standby has replayed it where one is waited for, and that behind a query there.
  await tx.query(
    `SELECT set_config('synchronous_commit', 'local', true)
     WHERE current_setting('synchronous_commit') IN ('on', 'remote_write', 'remote_apply')`,
  );
  await tx.query(`SET LOCAL lock_timeout = '${LOCK_MS}ms'`);
  await tx.query(`SET LOCAL statement_timeout = '${lockBudgetMs(table.relations)}ms'`);
  const sql = block([`LOCK TABLE ${table.name} IN ${mode} MODE NOWAIT`, ...locking.map(({ sql }) => sql)]);
  await inAFreeMoment(tx, sql, Math.min(deadline, Date.now() + LOOK_FOR_MS));
}

/** Runs the statement again and again while a lock of it is not free; throws as it did at `until`. */
async function inAFreeMoment(tx: Executor, sql: string, until: number): Promise<void> {
  for (;;) {
    await tx.query('SAVEPOINT freshvec');
    try {
      return void (await tx.query(sql));
    } catch (error) {
      if (sqlState(error) !== LOCK_NOT_AVAILABLE || Date.now() > until) throw error;
    }
    await tx.query('ROLLBACK TO SAVEPOINT freshvec');
    await sleep(LOOK_MS);
  }
}

/**
 * Has autovacuum leave the table alone until the transaction ends. Not where it is an index build that holds it: who
 * waits for that one holds a snapshot, which it waits for in turn at its end, and one of the two would fail.
 */
async function endVacuum(tx: Executor, { name, oid }: LockedTable): Promise<void> {
  await tx.query('SET LOCAL statement_timeout = 0');
  if ((await findBuild(tx, [oid])) !== undefined) return;
  await tx.query(
    `SELECT set_config('lock_timeout', (setting::int + $1::int)::text, true) FROM pg_settings WHERE name = 'deadlock_timeout'`,
    [VACUUM_ENDS_MS],
  );
  await tx.query(`LOCK TABLE ${name} IN SHARE UPDATE EXCLUSIVE MODE`);
}

/** The statements as one, so that a distant client does not hold the lock for a round trip each. */
function block(statements: readonly string[]): string {
  return `DO ${dollarQuote(`BEGIN\n${statements.map((sql) => `${sql};\n`).join('')}END`)}`;
}

/** Sessions that hold the table, without what they run: it may hold content. */
async function lockHolders(db: Executor, oid: number): Promise<string[]> {
  const rows = await db.query<{ pid: number; name: string; state: string | null; mode: string }>(
    `SELECT DISTINCT l.pid, COALESCE(a.application_name, '') AS name, a.state, l.mode
     FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.granted AND l.pid <> pg_backend_pid()
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND l.relation IN (SELECT $1::oid UNION SELECT relid FROM pg_partition_tree($1::oid::regclass))
     ORDER BY l.pid`,
    [oid],
  );
  return rows.map(({ pid, name, state, mode }) => `pid ${pid} (${[name, state, mode].filter(Boolean).join(', ')})`);
}

function gaveUp(table: LockedTable | undefined, holders: string[], giveUpMs: number, cause: unknown): FreshvecError {
  const who = holders.length > 0 ? `It is held by ${holders.join(', ')}.` : 'Nobody holds it at this moment.';
  return new FreshvecError(
    'lock_not_available',
    `${table?.name ?? 'The table'} was never free for ${STATEMENT_MS} ms within ${Math.round(giveUpMs / 1000)} s; nothing was changed. ` +
      `${who} End those sessions with SELECT pg_terminate_backend(pid), or try again at a quieter time.`,
    { cause },
  );
}
