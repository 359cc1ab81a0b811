import path from 'node:path';
import pg from 'pg';
import { openPglite } from '../../src/db/pglite.js';

/** The name, in the run's directory, of what all embedded test databases are copied from. */
export const EMBEDDED_TEMPLATE = 'template';

/** Fills the database that every test database is cloned from. Runs once per run; must close all its connections. */
export async function prepareTemplate(url: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query('CREATE EXTENSION IF NOT EXISTS vector');
  } finally {
    await client.end();
  }
}

/** The same for embedded databases: a new directory, initialised as `up --embedded` does it. */
export async function prepareEmbedded(runDirectory: string): Promise<void> {
  const db = await openPglite({ dataDir: path.join(runDirectory, EMBEDDED_TEMPLATE) });
  await db.close();
}
