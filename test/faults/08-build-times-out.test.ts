import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureIndex } from '../../src/store/build-index.js';
import { indexName } from '../../src/store/index-state.js';
import { indexState } from '../../src/store/vector-indexes.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { expectIndexes, filledSource, openTransaction, reached } from './index-builds.js';
import { eachTry } from './support/tries.js';

const ROWS = 1_500;

describe('fault 08: index build hits lock_timeout / statement_timeout [O]', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
  });
  afterAll(() => fixture.close());

  test('time-outs that the database or the role has by default do not end a build', async (context) => {
    const { db } = fixture;
    const [name] = (await db.query<{ name: string }>('SELECT current_database()::text AS name')).map((row) => row.name);
    const held = await filledSource(fixture, { table: 'note', rows: ROWS });
    const settings = [
      'lock_timeout',
      'statement_timeout',
      'transaction_timeout',
      'idle_in_transaction_session_timeout',
    ];
    await eachTry(context, settings, async (setting) => {
      const holder = await openTransaction(fixture.url, 'BEGIN', 'UPDATE note SET body = body WHERE id = 1');
      await db.exec(`ALTER DATABASE "${name}" SET ${setting} = '40ms'`);
      try {
        const build = ensureIndex(db, held.source, held.space);
        // It waits for the writer for longer than that, and goes on when the writer ends.
        expect(await reached(db, 'waiting for writers before build', () => false)).not.toBe(false);
        await holder.query('SELECT pg_sleep(0.1)');
        await holder.query('COMMIT');
        expect(await build).toBe('built');
      } finally {
        await holder.end();
        await db.exec(`ALTER DATABASE "${name}" RESET ${setting}`);
      }
      await expectIndexes(db, [indexName(held.space)]);
      await db.exec(`DROP INDEX ${indexName(held.space)}`);
    });
    await db.exec('DROP TABLE note CASCADE');
  });

  test('what a time-out or a cancel left under our name is mended', async (context) => {
    const { db } = fixture;
    const held = await filledSource(fixture, { table: 'broken', rows: ROWS });
    const name = indexName(held.space);
    const create = `CREATE INDEX CONCURRENTLY ${name} ON broken USING hnsw (embedding vector_cosine_ops)`;
    const ways: Readonly<Record<string, () => Promise<unknown>>> = {
      async lock_timeout() {
        const holder = await openTransaction(fixture.url, 'BEGIN', 'UPDATE broken SET body = body WHERE id = 1');
        const failed = await inSession(`SET lock_timeout = '40ms'`, create);
        await holder.end();
        return failed;
      },
      statement_timeout: () => inSession(`SET statement_timeout = '60ms'`, create),
      async 'cancelled by a person'() {
        const build = ensureIndex(db, held.source, held.space).catch((error: unknown) => error);
        const pid = await reached(db, 'building index: loading tuples', () => false);
        await db.query('SELECT pg_cancel_backend($1::int)', [pid]);
        return build;
      },
    };
    await eachTry(context, Object.keys(ways), async (way) => {
      expect(await ways[way]?.()).toMatchObject({ code: way === 'lock_timeout' ? '55P03' : '57014' });
      await expectIndexes(db, [], [name]);
      expect(await indexState(db, held.source, held.space)).toBe('building');
      expect(await ensureIndex(db, held.source, held.space)).toBe('built');
      await expectIndexes(db, [name]);
      await db.exec(`DROP INDEX ${name}`);
    });
  });

  /** The error of the last statement. */
  async function inSession(...statements: string[]): Promise<unknown> {
    const session = await openTransaction(fixture.url);
    try {
      for (const statement of statements) await session.query(statement);
      return undefined;
    } catch (error) {
      return error;
    } finally {
      await session.end();
    }
  }
});
