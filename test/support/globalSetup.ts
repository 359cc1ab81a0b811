import './provided.js';
import type { TestProject } from 'vitest/node';
import { asAdmin, createDatabase, databaseUrl, dropDatabase } from './admin.js';
import { getServers } from './servers.js';
import { prepareTemplate } from './template.js';

/** Once per run: the servers, and the database that all test databases are cloned from. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const servers = await getServers();
  process.stdout.write(`${servers.description}\n`);
  const databasePrefix = `fvtest_${process.pid}_${Math.random().toString(36).slice(2, 6)}`;
  const templateDatabase = `${databasePrefix}_template`;
  try {
    await asAdmin(servers.postgresUrl, (admin) => createDatabase(admin, templateDatabase, 'template0'));
    await prepareTemplate(databaseUrl(servers.postgresUrl, templateDatabase));
  } catch (error) {
    await servers.stop();
    throw error;
  }
  project.provide('postgresUrl', servers.postgresUrl);
  project.provide('redisUrl', servers.redisUrl);
  project.provide('databasePrefix', databasePrefix);
  project.provide('templateDatabase', templateDatabase);
  return async () => {
    try {
      await dropAll(servers.postgresUrl, databasePrefix);
    } finally {
      await servers.stop();
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
