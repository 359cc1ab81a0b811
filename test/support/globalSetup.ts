import './provided.js';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import type { TestProject } from 'vitest/node';
import { asAdmin, createDatabase, databaseUrl, dropDatabase } from './admin.js';
import { atExit } from './servers/cleanup.js';
import { getServers } from './servers.js';
import { prepareEmbedded, prepareTemplate } from './template.js';

/** Once per run: the servers, and the databases that all test databases are cloned or copied from. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const embeddedDirectory = mkdtempSync(path.join(os.tmpdir(), 'freshvec-run-'));
  const removeEmbedded = () =>
    rmSync(embeddedDirectory, { recursive: true, force: true, maxRetries: 20, retryDelay: 25 });
  const forget = atExit(removeEmbedded);
  const embedded = prepareEmbedded(embeddedDirectory);
  // Looked at only after the servers are there.
  embedded.catch(() => undefined);
  const servers = await getServers();
  process.stdout.write(`${servers.description}\n`);
  const databasePrefix = `fvtest_${process.pid}_${Math.random().toString(36).slice(2, 6)}`;
  const templateDatabase = `${databasePrefix}_template`;
  try {
    await asAdmin(servers.postgresUrl, (admin) => createDatabase(admin, templateDatabase, 'template0'));
    await prepareTemplate(databaseUrl(servers.postgresUrl, templateDatabase));
    await embedded;
  } catch (error) {
    await servers.stop();
    throw error;
  }
  project.provide('postgresUrl', servers.postgresUrl);
  project.provide('redisUrl', servers.redisUrl);
  project.provide('databasePrefix', databasePrefix);
  project.provide('templateDatabase', templateDatabase);
  project.provide('embeddedDirectory', embeddedDirectory);
  return async () => {
    try {
      await dropAll(servers.postgresUrl, databasePrefix);
    } finally {
      await servers.stop();
      removeEmbedded();
      forget();
    }
  };
}

/** A server that was given to us keeps nothing of ours, not even when test files forgot to drop theirs. */
async function dropAll(serverUrl: string, prefix: string): Promise<void> {
  await asAdmin(serverUrl, async (admin) => {
    const { rows } = await admin.query<{ datname: string }>(
      'SELECT datname FROM pg_database WHERE starts_with(datname, $1)',
      [prefix],
    );
    for (const { datname } of rows) await dropDatabase(admin, datname);
  });
}
