import type { Gates } from '../../src/budget/gates.js';
import { latestMigration, type Migration } from '../../src/catalog/migration.js';
import { getSource } from '../../src/catalog/source.js';
import { getSpace, liveSpace, type Space } from '../../src/catalog/space.js';
import type { Database, Executor } from '../../src/db/database.js';
import type { PointerCache } from '../../src/search/index.js';
import type { Fixture } from '../support/fixture.js';

/** What a history is played on. */
export interface World extends Fixture {
  readonly budget: Gates;
}

/** What the model knows: the migration's state as `states.ts` has it, and how often searches were switched. */
export interface Model {
  migration:
    | Pick<
        Migration,
        'id' | 'state' | 'parkedState' | 'dropSpaceId' | 'fromSpaceId' | 'toSpaceId' | 'paused' | 'renamed' | 'accepted'
      >
    | undefined;
  switches: number;
  /** SQL over the row: what is embedded. */
  text: string;
  /** The space whose vectors somebody has renamed away. */
  hidden: number | undefined;
  /** Columns and tables after the last command. */
  things: readonly string[];
  /** Of the process that searches. */
  readonly pointers: PointerCache;
  /** What happened, for those who want to know whether it ever does. */
  readonly told: Set<string>;
}

export const ENDED: readonly Migration['state'][] = ['done', 'aborted'];

/** Under which somebody hides vectors. */
export const AWAY = 'mine';

export async function present({ db }: Pick<Fixture, 'db'>): Promise<Migration | undefined> {
  return latestMigration(db, (await getSource(db, 'doc')).id);
}

export async function live({ db }: Pick<Fixture, 'db'>): Promise<{ epoch: number; space: Space }> {
  const found = await liveSpace(db, (await getSource(db, 'doc')).id);
  if (!found) throw new Error('there is no live space');
  return found;
}

/** A space that is there. */
export async function standing({ db }: Pick<Fixture, 'db'>, id: number | undefined): Promise<Space | undefined> {
  const space = id === undefined ? undefined : await getSpace(db, id);
  return space?.state === 'dropped' ? undefined : space;
}

export class Killed extends Error {}

/** The database of a process that is killed at its n-th statement: from there on it does nothing more. */
export function mortal(db: Database, statements: number): Database {
  let left = statements;
  const alive = () => {
    if (left-- <= 0) throw new Killed();
  };
  const watched = (executor: Executor): Executor => ({
    async query(sql, params) {
      alive();
      return executor.query(sql, params);
    },
  });
  return {
    ...watched(db),
    kind: db.kind,
    async exec(sql) {
      alive();
      return db.exec(sql);
    },
    async tx(fn) {
      alive();
      return db.tx(async (tx) => {
        const result = await fn(watched(tx));
        alive(); // Before the COMMIT.
        return result;
      });
    },
    async session(fn) {
      alive();
      return db.session((session) => fn(watched(session)));
    },
    vectorExtension: () => db.vectorExtension(),
    listen: (channel, onNotify) => db.listen(channel, onNotify),
    close: async () => {},
  };
}
