import type { Database } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import type { Fixture } from '../support/fixture.js';

/** Runs `work` over a connection whose server renders bytea as `escape`, unless told otherwise. */
export async function withEscapedBytea(fixture: Fixture, work: (db: Database) => Promise<void>): Promise<void> {
  await fixture.db.exec(
    `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET bytea_output = escape', current_database()); END $$`,
  );
  const db = await openDatabase({
    kind: 'postgres',
    url: fixture.url,
    poolSize: 1,
    applicationName: 'test',
    onError: () => {},
  });
  try {
    await work(db);
  } finally {
    await db.close();
  }
}
