import pg from 'pg';
import { asAdmin, databaseUrl } from './admin.js';
import { eventually } from './eventually.js';
import { dockerAnswers, dockerEngine } from './servers/dockerEngine.js';
import type { Engine } from './servers/engine.js';
import {
  answers,
  asArguments,
  BIN,
  IMAGE,
  type PostgresSettings,
  SIGNALS,
  type StopMode,
  treeCommand,
  urlOn,
} from './servers/postgres.js';
import { beginAndWait, startOnFreePort } from './servers/start.js';
import { ensureTree, type Tree } from './servers/tree.js';
import { treeEngine } from './servers/treeEngine.js';

export interface ReplicaOptions {
  /** Its application_name on the primary; `replica` unless told. */
  readonly name?: string;
  /** Has the primary keep WAL for it in a slot of this name, which `stop` drops. */
  readonly slot?: string;
  /** postgresql.conf settings of the standby, e.g. `{ hot_standby_feedback: 'on' }`. */
  readonly settings?: PostgresSettings;
}

export interface Replica {
  /** Superuser, database `postgres`; read-only until `promote`. */
  readonly url: string;
  readonly port: number;
  readonly name: string;
  /** The same database as `primaryUrl` names, here. */
  databaseUrl(primaryUrl: string): string;
  /** Stops replaying: WAL still arrives, and the lag grows with every write. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Waits until everything that the primary wrote so far is replayed. */
  caughtUp(): Promise<void>;
  /** Makes it a primary of its own. */
  promote(): Promise<void>;
  /** Ends the server for now; data and port stay for `up`. */
  down(mode?: StopMode): Promise<void>;
  up(): Promise<void>;
  /** Ends it for good and removes its data, and its slot where the primary still answers. */
  stop(mode?: StopMode): Promise<void>;
}

/**
 * A streaming standby of a server that `startPostgres` started, on 127.0.0.1 and a free port. It is a copy of the whole
 * server: take one of the test's own as primary, not the run's.
 */
export async function startReplica(primaryUrl: string, options: ReplicaOptions = {}): Promise<Replica> {
  const { name = 'replica', slot } = options;
  const settings = { ...(await asLargeAs(primaryUrl)), hot_standby: 'on', fsync: 'off', ...options.settings };
  const docker = await dockerAnswers();
  if (docker) await admitReplication(primaryUrl);
  if (slot !== undefined) await createSlot(primaryUrl, slot);
  const plan: Plan = { primaryUrl, conninfo: conninfo(primaryUrl, name), slot, settings };
  const make = docker ? dockerReplica(plan) : treeReplica(await ensureTree(), plan);
  const { engine, port } = await startOnFreePort(make, answers).catch(async (error: unknown) => {
    await dropSlot(primaryUrl, slot);
    throw error;
  });
  const url = urlOn(port);
  const down = (mode: StopMode = 'fast') => engine.end(SIGNALS[mode]);
  return {
    url,
    port,
    name,
    databaseUrl: (ofPrimary) => databaseUrl(url, decodeURIComponent(new URL(ofPrimary).pathname.slice(1))),
    async pause() {
      await query(url, 'SELECT pg_wal_replay_pause()');
      const paused = async () => (await one(url, 'SELECT pg_get_wal_replay_pause_state()')) === 'paused';
      await eventually(paused, { what: `the pause of the replay on ${name}` });
    },
    async resume() {
      await query(url, 'SELECT pg_wal_replay_resume()');
    },
    async caughtUp() {
      const written = await one(primaryUrl, 'SELECT pg_current_wal_lsn()::text');
      const there = async () => one(url, 'SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn', [written]);
      await eventually(async () => (await there()) === true, { timeoutMs: 30_000, what: `${name} to catch up` });
    },
    async promote() {
      await query(url, 'SELECT pg_promote(true, 60)');
    },
    down,
    up: () => beginAndWait(engine, () => answers(port)),
    async stop(mode = 'immediate') {
      await down(mode);
      await engine.remove();
      await dropSlot(primaryUrl, slot);
    },
  };
}

interface Plan {
  readonly primaryUrl: string;
  readonly conninfo: string;
  readonly slot: string | undefined;
  readonly settings: PostgresSettings;
}

/** pg_basebackup's -R makes it a standby; where it streams from, and as whom, is told on the command line. */
function standbySettings({ conninfo, slot, settings }: Plan): PostgresSettings {
  return { primary_conninfo: conninfo, ...(slot !== undefined && { primary_slot_name: slot }), ...settings };
}

function backupArguments(primaryUrl: string, directory: string): string[] {
  const { hostname, port, username } = new URL(primaryUrl);
  const server = [
    `--host=${hostname}`,
    `--port=${port}`,
    `--username=${decodeURIComponent(username)}`,
    '--no-password',
  ];
  return [...server, `--pgdata=${directory}`, '-R', '--wal-method=stream', '--checkpoint=fast', '--no-sync'];
}

type Make = (port: number) => Promise<Engine>;

function treeReplica(tree: Tree, plan: Plan): Make {
  return (port) =>
    treeEngine({
      tree,
      user: 'postgres',
      deathSignal: 'QUIT',
      prepare: (home) => [`${BIN}/pg_basebackup`, ...backupArguments(plan.primaryUrl, `${home}/data`)],
      command: (home) => treeCommand(home, port, standbySettings(plan)),
    });
}

/** On the machine's network, where the primary's published port is; the copy is made when it first begins. */
function dockerReplica(plan: Plan): Make {
  const directory = '/var/lib/postgresql/standby';
  const script = `set -e
[ -e ${directory}/PG_VERSION ] || { install -d -o postgres -g postgres -m 700 ${directory}; gosu postgres pg_basebackup $BACKUP; }
exec gosu postgres postgres -D ${directory} "$@"`;
  return (port) =>
    dockerEngine({
      image: IMAGE,
      port,
      containerPort: 'host',
      env: { BACKUP: backupArguments(plan.primaryUrl, directory).join(' ') },
      command: [
        'bash',
        '-c',
        script,
        'standby',
        ...asArguments({ listen_addresses: '127.0.0.1', port, ...standbySettings(plan) }),
      ],
    });
}

/** A primary in a container sees its standby come from the bridge, which initdb's pg_hba.conf does not admit. */
async function admitReplication(primaryUrl: string): Promise<void> {
  await query(
    primaryUrl,
    `COPY (SELECT 'host replication all all trust') TO PROGRAM 'cat >> "$PGDATA/pg_hba.conf"'; SELECT pg_reload_conf()`,
  );
}

function conninfo(primaryUrl: string, name: string): string {
  const { hostname, port, username } = new URL(primaryUrl);
  return `host=${hostname} port=${port} user=${decodeURIComponent(username)} application_name='${name}'`;
}

/** A standby refuses to start with less room than its primary has. */
async function asLargeAs(primaryUrl: string): Promise<PostgresSettings> {
  const { rows } = await asAdmin(primaryUrl, (admin) =>
    admin.query<{ name: string; setting: string }>(
      `SELECT name, setting FROM pg_settings WHERE name IN ('max_connections', 'max_worker_processes', 'max_wal_senders',
         'max_prepared_transactions', 'max_locks_per_transaction')`,
    ),
  );
  return Object.fromEntries(rows.map(({ name, setting }) => [name, setting]));
}

async function createSlot(primaryUrl: string, slot: string): Promise<void> {
  await query(primaryUrl, `SELECT pg_create_physical_replication_slot(${pg.escapeLiteral(slot)}, true)`);
}

/** The walsender may need a moment to let go of it; a primary that is gone took its slots along. */
async function dropSlot(primaryUrl: string, slot: string | undefined): Promise<void> {
  if (slot === undefined || !(await answersAt(primaryUrl))) return;
  const sql = `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = ${pg.escapeLiteral(slot)}`;
  await eventually(() => query(primaryUrl, sql).then(() => true), { what: `the end of the slot ${slot}` });
}

async function answersAt(url: string): Promise<boolean> {
  return answers(Number(new URL(url).port)).then(
    () => true,
    () => false,
  );
}

async function query(url: string, sql: string): Promise<void> {
  await asAdmin(url, (admin) => admin.query(sql));
}

async function one(url: string, sql: string, params: readonly unknown[] = []): Promise<unknown> {
  const { rows } = await asAdmin(url, (admin) => admin.query<unknown[]>({ text: sql, rowMode: 'array' }, [...params]));
  return rows[0]?.[0];
}
