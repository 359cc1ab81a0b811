import pg from 'pg';
import { eventually } from '../../support/eventually.js';

/** Holds workers at an exact statement: a trigger that takes an advisory lock which the test keeps until it says so. */
export interface Barrier {
  close(): Promise<void>;
  /** Resolves when a worker stands at it; to the pid of its backend. */
  reached(): Promise<number>;
  open(): Promise<void>;
  /** Opens it for good and takes it away. */
  remove(): Promise<void>;
}

let serial = 0;

export interface BarrierOptions {
  /** Not at the event but at the COMMIT of its transaction: the server then commits whatever becomes of the client. */
  readonly atCommit?: boolean;
}

/**
 * `at`: the trigger's event, such as `BEFORE DELETE ON freshvec.lease`. Only backends whose application_name begins
 * with `worker` stop there. Installed before the workers start: a trigger needs a lock on its table.
 */
export async function installBarrier(
  url: string,
  at: string,
  { atCommit = false }: BarrierOptions = {},
): Promise<Barrier> {
  serial += 1;
  const lock = 7_000_000 + serial;
  const name = `oracle_barrier_${lock}`;
  const keeper = new pg.Client({ connectionString: url, application_name: 'barrier' });
  keeper.on('error', () => {});
  await keeper.connect();
  await keeper.query(`
    CREATE SCHEMA IF NOT EXISTS oracle;
    CREATE FUNCTION oracle.${name}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF current_setting('application_name') LIKE 'worker%' THEN PERFORM pg_advisory_xact_lock_shared(${lock}); END IF;
      RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
    END $$;
    CREATE ${atCommit ? 'CONSTRAINT ' : ''}TRIGGER ${name} ${at} ${atCommit ? 'DEFERRABLE INITIALLY DEFERRED' : ''}
      FOR EACH ROW EXECUTE FUNCTION oracle.${name}()`);
  let closed = false;
  const barrier: Barrier = {
    async close() {
      if (!closed) await keeper.query(`SELECT pg_advisory_lock(${lock})`);
      closed = true;
    },
    reached: () =>
      eventually(
        async () => {
          const { rows } = await keeper.query<{ pid: number }>(
            `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = ${lock} AND NOT granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
          );
          return rows[0]?.pid;
        },
        { timeoutMs: 30_000, what: `a worker at the barrier ${at}` },
      ),
    async open() {
      if (closed) await keeper.query(`SELECT pg_advisory_unlock(${lock})`);
      closed = false;
    },
    async remove() {
      await barrier.open().catch(() => {});
      await keeper.end();
    },
  };
  return barrier;
}
