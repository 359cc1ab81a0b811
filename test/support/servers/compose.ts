import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { output } from './command.js';

export interface ComposeUrls {
  readonly postgresUrl: string;
  readonly redisUrl: string;
}

/** The servers of docker-compose.yml. They are the developer's: left running, and nothing but our databases touched. */
export async function composeUp(): Promise<ComposeUrls> {
  const compose = ['compose', '--file', composeFile()];
  await output('docker', [...compose, 'up', '--detach', '--wait', 'postgres', 'redis'], 600_000);
  const address = async (service: string, port: number) =>
    (await output('docker', [...compose, 'port', service, String(port)])).trim();
  return {
    postgresUrl: `postgres://postgres:postgres@${await address('postgres', 5432)}/postgres`,
    redisUrl: `redis://${await address('redis', 6379)}/0`,
  };
}

/** Looked for upwards: this module runs from `test/` and, compiled for the benches, from `dist/test/`. */
function composeFile(): string {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const file = path.join(folder, 'docker-compose.yml');
    if (existsSync(file)) return file;
    if (folder === path.dirname(folder)) throw new Error('docker-compose.yml is not above this module');
    folder = path.dirname(folder);
  }
}
