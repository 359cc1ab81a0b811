import './provided.js';
import path from 'node:path';
import { expect, inject } from 'vitest';
import { asAdmin, assertNobodyConnected, createDatabase, databaseUrl, dropDatabase } from './admin.js';

export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** Removes it; fails, after removing it, when a connection to it was still open. */
  drop(): Promise<void>;
}

/** A database of this test file's own, cloned from the run's template. Take it in `beforeAll`, drop it in `afterAll`. */
export async function freshDatabase(): Promise<TestDatabase> {
  const serverUrl = inject('postgresUrl');
  const name = uniqueName(inject('databasePrefix'));
  await asAdmin(serverUrl, (admin) => createDatabase(admin, name, inject('templateDatabase')));
  const drop = () =>
    asAdmin(serverUrl, async (admin) => {
      try {
        await assertNobodyConnected(admin, name);
      } finally {
        await dropDatabase(admin, name);
      }
    });
  return { url: databaseUrl(serverUrl, name), name, drop };
}

/** Holds the test file's name, so that a leak in pg_stat_activity or a server log says whose it is. At most 63 bytes. */
function uniqueName(prefix: string): string {
  const file = path.basename(expect.getState().testPath ?? '').replace(/\.test\.ts$/, '');
  const readable = file.replace(/[^A-Za-z0-9]+/g, '_').toLowerCase();
  const random = Math.random().toString(36).slice(2, 8);
  return `${prefix}_${readable.slice(0, 30)}_${random}`;
}
