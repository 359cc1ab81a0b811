import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureIndex } from '../../src/store/build-index.js';
import type { BuildProgress } from '../../src/store/build-progress.js';
import { indexName } from '../../src/store/index-state.js';
import { eventually } from '../support/eventually.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { expectIndexes, filledSource, openTransaction } from './index-builds.js';
import { eachTry } from './support/tries.js';

/** What holds a build up, and in which phase. */
const HOLDERS: Readonly<Record<string, readonly string[]>> = {
  'waiting for old snapshots': ['BEGIN ISOLATION LEVEL REPEATABLE READ', 'SELECT count(*) FROM pg_class'],
  'waiting for writers before build': ['BEGIN', 'UPDATE note SET body = body WHERE id = 1'],
};

const STATEMENTS = 60;

describe('fault 10: an old snapshot holds the build up [Q, its pid is named]', () => {
  let fixture: Fixture;
  beforeAll(async () => {
    fixture = await openFixture();
  });
  afterAll(() => fixture.close());

  test('the app goes on, and who holds it up is named', async (context) => {
    const { db } = fixture;
    const held = await filledSource(fixture, { table: 'note', rows: 1_500 });
    // Q by the server's own count: a statement of the app that waits for a lock any longer fails.
    const app = await openTransaction(fixture.url, `SET lock_timeout = '100ms'`);
    let serial = 1_000_000;
    const write = async () => {
      serial += 1;
      await app.query(`INSERT INTO note (id, body) VALUES (${serial}, 'new ${serial}')`);
      await app.query(`UPDATE note SET body = 'edited ${serial}' WHERE id = ${2 + (serial % 1000)}`);
      await app.query(`DELETE FROM note WHERE id = ${serial - 3}`);
      await app.query(`SELECT id FROM note ORDER BY embedding <=> '[1,2,3,4,5,6,7,8]' LIMIT 5`);
    };
    await eachTry(context, Object.keys(HOLDERS), async (phase) => {
      const holder = await openTransaction(fixture.url, ...(HOLDERS[phase] ?? []));
      const told: BuildProgress[] = [];
      const build = ensureIndex(db, held.source, held.space, { onProgress: (progress) => told.push(progress) });
      try {
        const named = () => told.find((progress) => progress.phase === phase && progress.waitsForPid === holder.pid);
        for (let done = 0; done < STATEMENTS || named() === undefined; done++) await write();
        expect(named()).toMatchObject({ index: indexName(held.space) });
        await expectIndexes(db, [], [indexName(held.space)]);
      } finally {
        await holder.end();
      }
      await eventually(() => build.then((outcome) => outcome === 'built'), { timeoutMs: 30_000, what: 'the build' });
      await expectIndexes(db, [indexName(held.space)]);
      await db.exec(`DROP INDEX ${indexName(held.space)}`);
    });
    await app.end();
  });
});
