import { dropSchema, schemaStatus } from '../catalog/schema.js';
import { getSetting } from '../catalog/settings.js';
import type { Database } from '../db/database.js';
import { describeError } from '../observe/log.js';
import { uninstallSources } from '../source/index.js';
import type { Connection } from './connection.js';

export interface Uninstalled {
  /** Names of the sources that were removed. */
  readonly sources: string[];
  /** What could not be taken away, and where it is. */
  readonly notes: string[];
}

/** Takes freshvec out of the database, and its queues out of Redis; a Redis that is away is no hindrance. */
export async function uninstall(
  connection: Connection,
  { dropVectors }: { dropVectors: boolean },
): Promise<Uninstalled> {
  const db = await connection.database();
  await connection.flush().catch(() => {}); // There is nothing to write it to afterwards.
  const sources = await uninstallSources(db, { dropVectors });
  const notes = await emptyQueue(connection, db);
  await dropSchema(db);
  return { sources, notes };
}

/** Queues in the database go with the schema. */
async function emptyQueue(connection: Connection, db: Database): Promise<string[]> {
  if ((await schemaStatus(db)).queueBackend !== 'redis') return [];
  try {
    const queue = await connection.queue();
    await queue.obliterate().finally(() => queue.close());
    return [];
  } catch (error) {
    const prefix = `freshvec:${await getSetting(db, 'installation')}:`;
    return [`The queue in Redis was not emptied: its keys begin with "${prefix}". ${describeError(error).message}`];
  }
}
