import { setSpaceCap } from '../budget/space-cap.js';
import { hasEnded, holdLatestMigration, latestMigration, type Migration } from '../catalog/migration.js';
import { getSource, type Source } from '../catalog/source.js';
import { getSpace } from '../catalog/space.js';
import type { Database, Executor, StatementOptions } from '../db/database.js';
import { sqlState } from '../db/errors.js';
import { currentSource, executeStatements, lockedTable, type PlannedStatement } from '../source/index.js';
import { MigrationMissing, MigrationRefused } from './errors.js';
import { standsOn } from './ground.js';
import { contractTo } from './operations/contract.js';
import { dependents, whyKept } from './operations/dependents.js';
import { DEPENDED_ON, exchangeNames } from './operations/rename.js';
import { switchTo } from './operations/switch.js';
import { oldReaders } from './readers.js';
import { type MigrationEvent, outcomeOf } from './states.js';
import { whyNotSwitchable } from './switchable.js';
import { move, record } from './transition.js';

/** How long a switch that exchanges names goes on asking for the table's lock. */
const RENAME_TRY_MS = 60_000;

/** Gates without which searches would miss rows or not be answered in time. */
const FIRM_GATES: ReadonlySet<string> = new Set(['coverage', 'index']);

/**
 * What people ask of a migration. A command that changes what the step under way is for takes the row, and with it the
 * migration, from whatever controller is at work: what that one has in hand is not recorded any more, and an index build
 * is ended. Each may be given twice: the second time it changes nothing, and ends nothing.
 *
 * Throw FreshvecError `source_unknown`, MigrationMissing, MigrationRefused.
 */

/**
 * Switches searches to the new space. `rename`: the columns of the two spaces exchange their names in the same
 * transaction, for apps whose own SQL names the column; throws FreshvecError `lock_not_available` where the table is
 * never free.
 */
export async function cutover(
  db: Database,
  source: string,
  { rename = false }: { readonly rename?: boolean } = {},
): Promise<Migration> {
  const act: Act = async (tx, migration, now) => {
    const why = await whyNotSwitchable(tx, now, migration);
    if (why !== undefined) throw refused(source, 'cutover', migration, why);
    return switchTo(tx, migration, 'soaking');
  };
  const migration = await (rename ? commandRenaming(db, source, 'cutover', act) : command(db, source, 'cutover', act));
  if (rename && !migration.renamed) {
    const why = 'it is switched already, without new names: `rollback`, then `cutover --rename`';
    throw refused(source, 'cutover', migration, why);
  }
  return migration;
}

/** Switches searches back to the old space, which was kept fresh; and names that the cutover exchanged. */
export async function rollback(db: Database, source: string): Promise<Migration> {
  const recorded = await latestMigration(db, (await getSource(db, source)).id);
  const renames = recorded?.renamed === true;
  const act: Act = async (tx, migration, now) => {
    if (migration.renamed !== renames) return false;
    const from = await getSpace(tx, migration.fromSpaceId);
    if (!from || !(await standsOn(tx, migration, now, from)))
      throw refused(source, 'rollback', migration, 'the old vectors are not there any more: `reembed status` says why');
    return switchTo(tx, migration, 'rolled_back');
  };
  // Without names to exchange it takes no lock on the table.
  return renames ? commandRenaming(db, source, 'rollback', act) : command(db, source, 'rollback', act);
}

/** Has the old space dropped; there is no way back. Refused while a process searches it, or SQL of the app's stands on it. */
export function complete(db: Database, source: string): Promise<Migration> {
  return command(db, source, 'complete', async (tx, migration, now) => {
    const [readers, old, live] = await Promise.all([
      oldReaders(tx, migration.sourceId),
      getSpace(tx, migration.fromSpaceId),
      getSpace(tx, migration.toSpaceId),
    ]);
    if (readers.length > 0) {
      throw new MigrationRefused(
        source,
        'complete',
        migration.state,
        `still searched with the old model by ${readers.join(', ')}. A process that lives notices the switch within 30 s, one that died is forgotten after 90 s: try again then, or end them`,
      );
    }
    if (!live || !(await standsOn(tx, migration, now, live)))
      throw refused(source, 'complete', migration, 'the new vectors are not there any more: `reembed status` says why');
    const standing = old ? await dependents(tx, now, old) : [];
    if (standing.length > 0) throw refused(source, 'complete', migration, whyKept(standing));
    return contractTo(tx, migration, migration.fromSpaceId, 'completed: the old space is being dropped');
  });
}

/** Gives the new space up and drops it. */
export function abort(db: Database, source: string): Promise<Migration> {
  return command(db, source, 'abort', async (tx, migration) => {
    if (migration.state === 'planned') return move(tx, migration, 'aborted', { what: 'aborted before it began' });
    const doomed = migration.dropSpaceId ?? migration.toSpaceId;
    return contractTo(tx, migration, doomed, 'aborted: the new space is being dropped');
  });
}

/** Rests the work on a migration. Edits go on being embedded for both spaces; `cutover` and `rollback` still work. */
export async function pauseMigration(db: Database, source: string): Promise<Migration> {
  return change(db, source, async (tx, migration) => {
    if (hasEnded(migration)) throw refused(source, 'pause', migration, 'it has ended');
    if (migration.paused) return false;
    await tx.query('UPDATE freshvec.migration SET paused = true WHERE id = $1', [migration.id]);
    await record(tx, migration.id, migration.state, 'paused by a person');
    return true;
  });
}

/** Goes on, whoever paused it or whatever parked it. `spendCap`: what the new vectors may cost in all, in dollars. */
export async function resumeMigration(
  db: Database,
  source: string,
  { spendCap }: { readonly spendCap?: number | undefined } = {},
): Promise<Migration> {
  return change(db, source, async (tx, migration) => {
    const outcome = outcomeOf(migration, 'resume');
    if (outcome !== 'same' && 'refused' in outcome) throw refused(source, 'resume', migration, outcome.refused);
    if (spendCap !== undefined) {
      if (migration.switchedAt !== undefined)
        throw refused(source, 'resume', migration, "it was switched: from then on no cap but the day's holds");
      await setSpaceCap(tx, migration.toSpaceId, spendCap);
      await record(tx, migration.id, migration.state, `may cost ${spendCap} dollars`);
    }
    if (migration.paused) {
      await tx.query('UPDATE freshvec.migration SET paused = false, reason = NULL WHERE id = $1', [migration.id]);
      await record(tx, migration.id, migration.state, 'resumed by a person');
    }
    if (outcome !== 'same') await move(tx, migration, outcome.to, { what: 'resumed by a person' });
    return migration.paused || outcome !== 'same' || isResting(migration);
  });
}

/** What a command does with a migration that is held, of a source as it is now. False: nothing. */
type Act = (tx: Executor, migration: Migration, source: Source) => Promise<boolean>;

async function command(
  db: Database,
  source: string,
  event: Extract<MigrationEvent, 'cutover' | 'rollback' | 'complete' | 'abort'>,
  act: Act,
  within?: Within,
): Promise<Migration> {
  const fn: Act = async (tx, migration, now) => {
    const outcome = outcomeOf(migration, event);
    if (outcome === 'same') return false;
    if ('refused' in outcome) throw refused(source, event, migration, outcome.refused);
    // A contraction goes on by itself, and what has ended does not rest.
    if (migration.paused && (outcome.to === 'contracting' || migration.state === 'planned'))
      await tx.query('UPDATE freshvec.migration SET paused = false WHERE id = $1', [migration.id]);
    if (!(await act(tx, migration, now)))
      throw refused(source, event, migration, 'it changed meanwhile: look at its status, and try again');
    return true;
  };
  return change(db, source, fn, within);
}

/** A command whose switch exchanges the columns' names: the table is locked, at the end of its transaction. */
async function commandRenaming(
  db: Database,
  sourceName: string,
  event: 'cutover' | 'rollback',
  act: Act,
): Promise<Migration> {
  const recorded = await getSource(db, sourceName);
  const source = (await currentSource(db, recorded)) ?? recorded;
  const table = await lockedTable(db, source);
  let statements: readonly PlannedStatement[] = [];
  const renaming: Act = async (tx, migration, now) => {
    if (!(await act(tx, migration, now))) return false;
    // After what `act` checks, which looks at the columns under their present names.
    statements = await exchangeNames(tx, source, migration, event);
    return true;
  };
  return command(db, sourceName, event, renaming, async (work) => {
    let done: Migration | undefined;
    const attempt = async (tx: Executor) => {
      statements = [];
      done = await work(tx);
      return statements;
    };
    try {
      await executeStatements(db, table, attempt, { giveUpMs: RENAME_TRY_MS });
    } catch (error) {
      if (sqlState(error) !== DEPENDED_ON) throw error;
      throw new MigrationRefused(sourceName, event, 'switching', 'a view was made on its vectors just now: try again');
    }
    if (!done) throw new TypeError('a transaction was committed that never ran');
    return done;
  });
}

/** How a command's transaction is run, where something else goes along in it. */
type Within = (work: (tx: Executor) => Promise<Migration>) => Promise<Migration>;

/** Gates that did not hold are measured again after a while: a person's word has that done at once. */
function isResting({ state, tries }: Migration): boolean {
  return state === 'verifying' && tries > 0;
}

/**
 * Runs `act` with the source's last migration locked, and takes it from its controller where `act` says that the step
 * under way must not go on; resolves to it as it is then.
 */
async function change(db: Database, sourceName: string, act: Act, within?: Within): Promise<Migration> {
  const work = async (tx: Executor, ending: StatementOptions): Promise<Migration> => {
    // The definition second: an `alter` that held the migration is over then.
    const [migration, source] = await Promise.all([holdLatestMigration(tx, sourceName), getSource(tx, sourceName)]);
    if (!migration) throw new MigrationMissing(sourceName);
    const acted = await act(tx, migration, source);
    const [, then] = await Promise.all([
      // What failed before is tried at once.
      acted && tx.query('UPDATE freshvec.migration SET token = NULL, tries = 0 WHERE id = $1', [migration.id]),
      latestMigration(tx, source.id, ending),
    ]);
    return then ?? migration;
  };
  return within ? within((tx) => work(tx, {})) : db.tx((tx) => work(tx, { last: true }), { eager: true });
}

function refused(source: string, command: string, migration: Migration, why: string): MigrationRefused {
  return new MigrationRefused(source, command, migration.state, why);
}

/** Says that gates may be passed although they do not hold; never those without which searches would miss rows. */
export function acceptGates(db: Database, source: string, names: readonly string[]): Promise<Migration> {
  return change(db, source, async (tx, migration) => {
    const firm = names.filter((name) => FIRM_GATES.has(name));
    if (firm.length > 0)
      throw refused(source, 'accept', migration, `${firm.join(', ')} cannot be waived: rows would be missing`);
    const unknown = names.filter((name) => !migration.gates.some((gate) => gate.name === name));
    if (unknown.length > 0) {
      const known = migration.gates.map(({ name }) => name).join(', ');
      throw refused(
        source,
        'accept',
        migration,
        `there is no gate ${unknown.join(', ')}. ${known ? `There are: ${known}` : 'None was measured yet'}`,
      );
    }
    if (names.every((name) => migration.accepted.includes(name))) return isResting(migration);
    await tx.query(
      `UPDATE freshvec.migration SET accepted = ARRAY(SELECT DISTINCT unnest(accepted || $2::text[])) WHERE id = $1`,
      [migration.id, names],
    );
    await record(tx, migration.id, migration.state, `accepted by a person: ${names.join(', ')}`);
    // Only the gates look at it.
    return migration.state === 'verifying';
  });
}
