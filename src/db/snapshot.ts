import type { Database, Executor, Row } from './database.js';
import { FreshvecError } from './errors.js';

/**
 * The same database for somebody who only looks: each `tx` reads one snapshot and writes nothing, and no statement in
 * it takes longer than `statementMs` (on PGlite, which has no timers, as long as it takes). A statement by itself is
 * such a transaction too. What cannot be held to that throws FreshvecError `read_only`.
 */
export function readOnly(db: Database, statementMs: number): Database {
  const tx = <T>(fn: (tx: Executor) => Promise<T>): Promise<T> =>
    db.tx(async (inner) => {
      await inner.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
      await inner.query(`SET LOCAL statement_timeout = ${Math.ceil(statementMs)}`);
      return fn(inner);
    });
  const refuse = async (): Promise<never> => {
    throw new FreshvecError('read_only', 'This view of the database only reads, in transactions.');
  };
  return {
    kind: db.kind,
    tx,
    query<R extends Row = Row>(text: string, params?: readonly unknown[]) {
      return tx((inner) => inner.query<R>(text, params));
    },
    vectorExtension: () => db.vectorExtension(),
    exec: refuse,
    session: refuse,
    listen: refuse,
    close: refuse,
  };
}
