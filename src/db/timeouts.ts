import type { Executor } from './database.js';

/** SQL: a value that nobody needs; computed, it does what `takeTime` does. */
export const TAKE_TIME_SQL = `set_config('statement_timeout', '0', true) || CASE
         WHEN current_setting('transaction_timeout', true) IS NOT NULL THEN set_config('transaction_timeout', '0', true) END`;

/**
 * Lets the statements that follow in this transaction take their time, whatever the role or the database allows: they
 * read a whole table, and would be ended, and tried again, for ever. `transaction_timeout` is there from PostgreSQL 17 on.
 */
export async function takeTime(tx: Executor): Promise<void> {
  await tx.query(`SELECT ${TAKE_TIME_SQL}`);
}
