import type { Source } from '../catalog/source.js';
import { type Ending, settle } from '../claim/settle.js';
import { classify, isOfOneRow, sqlState } from '../db/errors.js';
import type { WriteOutcome } from '../store/port.js';
import type { DrainContext } from './context.js';

/** How often a transaction that a deadlock or a moved row ended is run again at once: its vectors are paid for. */
const RETRIES = 3;

/** Retried where PostgreSQL says so, charged to nobody. */
async function retried<T>(run: () => Promise<T>): Promise<T> {
  for (let left = RETRIES; ; left--) {
    try {
      return await run();
    } catch (error) {
      if (left === 0 || classify(error) !== 'retry') throw error;
    }
  }
}

/** A row to be written, or tidied. */
export type Written = { readonly key: string; readonly hash: string | null };

/** Where so many rows in a row are refused, and none is taken, it is not for what one of them says. */
const MOST_REFUSED = 16;

/**
 * Runs `write` with all rows; where the table refuses one of them (a constraint, a trigger of the app's), that one is
 * found by halving and set aside as a failure, and keeps nobody from the others. Throws where it refuses the first `most`.
 */
export async function apart<R extends Written>(
  context: DrainContext,
  token: string,
  rows: readonly R[],
  write: (rows: readonly R[]) => Promise<ReadonlyMap<string, WriteOutcome>>,
  most = MOST_REFUSED,
): Promise<Map<string, WriteOutcome>> {
  const outcomes = new Map<string, WriteOutcome>();
  const refused: { readonly row: R; readonly error: unknown }[] = [];
  const attempt = async (some: readonly R[]): Promise<void> => {
    try {
      for (const [key, outcome] of await retried(() => write(some))) outcomes.set(key, outcome);
    } catch (error) {
      const [row] = some;
      if (row === undefined || !isOfOneRow(error)) throw error;
      if (some.length === 1) refused.push({ row, error });
      if (outcomes.size === 0 && refused.length >= most) throw error;
      if (some.length === 1) return;
      const middle = some.length >> 1;
      await attempt(some.slice(0, middle));
      await attempt(some.slice(middle));
    }
  };
  await attempt(rows);
  for (const { row, error } of refused) await setAside(context, token, row, sqlState(error));
  return outcomes;
}

/** PostgreSQL's own message is left out: it quotes the content. */
async function setAside(
  { db, store, report }: DrainContext,
  token: string,
  row: Written,
  state: string | undefined,
): Promise<void> {
  const message = `The table refuses an update of this row (SQLSTATE ${state}): a constraint or a trigger of yours. Mend the row, then \`freshvec failures retry ${store.source.name}\`.`;
  await db.tx((tx) => settle(tx, store.space.id, token, [failure(row, message)]));
  report.failed += 1;
}

/** The failure of a row that a trigger of the app's kept as it was: no error tells of that one. */
export function vetoed({ name }: Pick<Source, 'name'>, row: Written): Ending {
  const message = `A BEFORE UPDATE trigger of yours keeps freshvec's columns of this row as they are (it returns NULL or OLD, or sets them). Have it let them change, then \`freshvec failures retry ${name}\`; or keep the vectors in a table of their own (\`--store table\`).`;
  return failure(row, message);
}

function failure({ key, hash }: Written, message: string): Ending {
  return { key, end: 'fail', code: 'write_refused', message, attempts: 1, hash };
}
