import type { Connection } from '../client/connection.js';
import { type Role, serve } from '../client/serve.js';
import { createLog } from '../observe/log.js';
import type { Cli } from './cli.js';
import { openDoor } from './door.js';

/** Runs these roles until the process is told to end, and meanwhile other processes' commands on an embedded database. */
export async function stay(cli: Cli, roles: readonly Role[]): Promise<void> {
  cli.forwards = false;
  const { io, run } = cli;
  const config = await cli.config();
  const log = createLog(config.log.level, io.stderr);
  const { database } = config;
  const dataDir = database?.kind === 'pglite' ? database.dataDir : undefined;
  const door =
    dataDir === undefined ? undefined : (connection: Connection) => openDoor({ connection, dataDir, run, log });
  await serve(config, roles, log, io.stopSignal(), door);
  cli.answer({ stopped: true }, () => '');
}
