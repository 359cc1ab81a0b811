import { expect } from 'vitest';
import type { Database } from '../../../src/db/database.js';
import type { WorkerProcess } from './workers.js';

/**
 * A log, by triggers, of every vector that is written and of every lease: who (application_name), in which transaction,
 * under which token. `vectors` is the relation that holds the vectors, `update` what a write of one is there.
 */
export async function installLog(db: Database, vectors: string, update: string): Promise<void> {
  await db.exec(`
    CREATE SCHEMA oracle;
    CREATE TABLE oracle.log (
      id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT clock_timestamp(), tx xid8 DEFAULT pg_current_xact_id(),
      app text DEFAULT current_setting('application_name'), what text, key text, token uuid, worker text
    );
    CREATE FUNCTION oracle.wrote() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO oracle.log (what, key) VALUES ('write', COALESCE(NEW.id, OLD.id)::text);
      RETURN NULL;
    END $$;
    CREATE FUNCTION oracle.leased() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF TG_OP <> 'INSERT' AND OLD.token IS NOT NULL AND (TG_OP = 'DELETE' OR NEW.token IS DISTINCT FROM OLD.token) THEN
        INSERT INTO oracle.log (what, key, token, worker) VALUES ('end', OLD.key, OLD.token, OLD.worker);
      END IF;
      IF TG_OP <> 'DELETE' AND NEW.token IS NOT NULL AND (TG_OP = 'INSERT' OR NEW.token IS DISTINCT FROM OLD.token) THEN
        INSERT INTO oracle.log (what, key, token, worker) VALUES ('lease', NEW.key, NEW.token, NEW.worker);
      END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER oracle_log AFTER ${update} ON ${vectors} FOR EACH ROW EXECUTE FUNCTION oracle.wrote();
    CREATE TRIGGER oracle_log AFTER INSERT OR UPDATE OR DELETE ON freshvec.lease
      FOR EACH ROW EXECUTE FUNCTION oracle.leased();
  `);
}

/**
 * Invariant F: every vector was written in the transaction that ended a lease on its key, and the process that wrote is
 * the one that held it. A lease is one row, so no two can have held one key at once.
 */
export async function assertOneWriter(db: Database, workers: readonly WorkerProcess[]): Promise<void> {
  const writes = await db.query<{ app: string; key: string; holders: string[] }>(
    `SELECT w.app, w.key, ARRAY(
       SELECT e.worker FROM oracle.log e WHERE e.what = 'end' AND e.tx = w.tx AND e.key = w.key) AS holders
     FROM oracle.log w WHERE w.what = 'write' AND w.app LIKE 'worker-%'`,
  );
  const pids = new Map(workers.map(({ name, pid }) => [name, pid]));
  const wrong = writes.filter(
    ({ app, holders }) => holders.length !== 1 || !holders[0]?.endsWith(`:${pids.get(app) ?? 'nobody'}`),
  );
  expect(wrong).toEqual([]);
  expect(writes.length).toBeGreaterThan(0);
}

/** Vectors that this worker has written, in transactions that committed. */
export async function writesOf(db: Database, worker: WorkerProcess): Promise<number> {
  const [row] = await db.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM oracle.log WHERE what = 'write' AND app = $1`,
    [worker.name],
  );
  return row?.n ?? 0;
}
