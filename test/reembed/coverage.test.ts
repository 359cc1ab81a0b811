import { expect, test } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { coverageGate, readCoverage } from '../../src/reembed/gates/coverage.js';
import { failuresGate } from '../../src/reembed/gates/failures.js';
import { pendingGate } from '../../src/reembed/gates/pending.js';
import { contextOf, onBoth, type TwoSpaces, twoSpaces } from './two-spaces.js';

onBoth((fixture, engine) => {
  const gateOf = async (spaces: TwoSpaces) => coverageGate(await readCoverage(contextOf(fixture(), spaces)));

  test.each(['column', 'table'] as const)(
    'coverage: rows that nobody knows of block, known ones do not (%s)',
    async (store) => {
      const { db } = fixture();
      const table = `cov_${store}`;
      const spaces = await twoSpaces(fixture(), { table, rows: 300, store, where: 'id < 290', indexed: false });
      const { source, to } = spaces;
      expect(await gateOf(spaces)).toMatchObject({ name: 'coverage', passed: true, value: 0, bound: 0 });
      expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject({ rows: 289, failed: 0 });

      // Triggers maintain only the live space here: the new one hears nothing of these.
      await db.query(`UPDATE ${table} SET body = 'edited' WHERE id = 7`);
      await db.query(`INSERT INTO ${table} (id, body) VALUES (-1, 'new')`);
      await db.query(`UPDATE ${table} SET body = ' ' WHERE id = 9`);
      expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject({
        rows: 289,
        missing: 1,
        stale: 1,
        surplus: 1,
        examples: expect.arrayContaining(['-1', '7', '9']),
      });
      const failing = await gateOf(spaces);
      expect(failing).toMatchObject({ passed: false, value: 3 });
      expect(failing.note).toMatch(/1 without a vector, 1 with the vector of another text or model, 1 with a vector/);

      // A change, a lease and a failure of the present text each account for one of them.
      await db.query(`INSERT INTO freshvec.change (space_id, key) VALUES ($1, '7')`, [to.id]);
      await db.query(`INSERT INTO freshvec.lease (space_id, key, expires_at, since) VALUES ($1, '9', now(), now())`, [
        to.id,
      ]);
      expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject({ missing: 1, stale: 0, surplus: 0 });
      const failure = (hash: string) =>
        db.query(
          `INSERT INTO freshvec.failure (space_id, key, code, message, attempts, hash)
         VALUES ($1, '-1', 'input_rejected', 'no', 1, freshvec.content_hash($2))
         ON CONFLICT (space_id, key) DO UPDATE SET hash = excluded.hash`,
          [to.id, hash],
        );
      await failure('another text');
      expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject({ missing: 1, failed: 0 });
      await failure('new');
      expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject({
        missing: 0,
        stale: 0,
        surplus: 0,
        failed: 1,
      });
      expect(await gateOf(spaces)).toMatchObject({ passed: true, value: 0 });

      // Of another space, they account for nothing.
      await db.query(`UPDATE freshvec.change SET space_id = $2 WHERE space_id = $1`, [to.id, spaces.from.id]);
      expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject({ stale: 1 });
      await db.query(`DELETE FROM freshvec.lease WHERE space_id = $1`, [to.id]);
      await db.query(`DELETE FROM freshvec.failure WHERE space_id = $1`, [to.id]);
      expect(await gateOf({ ...spaces, source })).toMatchObject({ passed: false, value: 3 });
    },
  );

  test('coverage: a vector of another model under the right hash blocks', async () => {
    const spaces = await twoSpaces(fixture(), { table: 'cov_model', rows: 20, indexed: false });
    await fixture().db.query(`UPDATE cov_model SET embedding_2_model = 'static/mini@256#other' WHERE id = 3`);
    expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject({ stale: 1, examples: ['3'] });
  });

  test('coverage: leaf by leaf of a partitioned source', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), {
      table: 'cov_parts',
      rows: 60,
      indexed: false,
      create: `CREATE TABLE cov_parts (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
        CREATE TABLE cov_parts_a PARTITION OF cov_parts FOR VALUES FROM (0) TO (30);
        CREATE TABLE cov_parts_b PARTITION OF cov_parts FOR VALUES FROM (30) TO (100)`,
    });
    expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject({ rows: 60, missing: 0, stale: 0 });
    await db.query(
      'UPDATE cov_parts_b SET embedding_2 = NULL, embedding_2_model = NULL, embedding_2_hash = NULL WHERE id = 40',
    );
    await db.query('UPDATE cov_parts_a SET embedding_2_hash = gen_random_uuid() WHERE id = 10');
    expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject({ rows: 60, missing: 1, stale: 1 });
  });

  test('coverage: a row that moves to a page that was read already is seen, and once', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), {
      table: 'cov_move',
      rows: 50,
      indexed: false,
      create:
        'CREATE TABLE cov_move (id int PRIMARY KEY, body text, pad text STORAGE PLAIN) WITH (autovacuum_enabled = off)',
    });
    const pageOf = async (id: number) => {
      const [row] = await db.query<{ page: number }>(
        `SELECT split_part(trim('(' FROM ctid::text), ',', 1)::int AS page FROM cov_move WHERE id = $1`,
        [id],
      );
      return row?.page ?? -1;
    };
    const [last] = await db.query<{ id: number; page: number }>(
      `UPDATE cov_move SET embedding_2_hash = gen_random_uuid()
       WHERE id = (SELECT id FROM cov_move ORDER BY ctid DESC LIMIT 1) RETURNING id, split_part(trim('(' FROM ctid::text), ',', 1)::int AS page`,
    );
    if (!last) throw new Error('no rows');
    await db.exec('VACUUM cov_move');
    // Just before its page is read, an update that nobody watches, and that does not fit there, moves it to an earlier one.
    let reads = 0;
    const tx: Database['tx'] = async (fn) => {
      if (reads++ === last.page) await db.query(`UPDATE cov_move SET pad = repeat('x', 6500) WHERE id = $1`, [last.id]);
      return db.tx(fn);
    };
    const watched: Database = {
      kind: db.kind,
      tx,
      query: (text, params) => db.query(text, params),
      session: (fn) => db.session(fn),
      exec: (sql) => db.exec(sql),
      listen: (channel, told) => db.listen(channel, told),
      vectorExtension: () => db.vectorExtension(),
      close: () => db.close(),
    };
    const coverage = await readCoverage({ ...contextOf(fixture(), spaces), db: watched }, 1);
    expect(await pageOf(last.id)).toBeLessThan(last.page);
    expect(coverage).toMatchObject({ rows: 50, stale: 1, missing: 0, examples: [String(last.id)] });
  });

  test('coverage: a row whose content cannot be had must be known for it', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), {
      table: 'cov_error',
      rows: 40,
      indexed: false,
      content: { sql: `(CASE WHEN body = 'bad' THEN (1 / (id - id))::text ELSE body END)` },
    });
    const { to } = spaces;
    await db.query(`UPDATE cov_error SET body = 'bad' WHERE id = 5`);
    const unknown = { rows: 40, stale: 1, examples: ['5'] };
    expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject(unknown);
    if (engine === 'postgres') {
      // A transaction that is older than some writes puts them on the other side: each row still counts once.
      await db.tx(async (tx) => {
        await tx.query('SELECT pg_current_xact_id()');
        await db.query('UPDATE cov_error SET embedding_2_model = embedding_2_model WHERE id IN (4, 5, 6, 20)');
        expect(await readCoverage(contextOf(fixture(), spaces))).toMatchObject(unknown);
      });
    }
    await db.query(
      `INSERT INTO freshvec.failure (space_id, key, code, message, attempts) VALUES ($1, '5', 'content_error', 'no', 1)`,
      [to.id],
    );
    const coverage = await readCoverage(contextOf(fixture(), spaces));
    expect(coverage).toMatchObject({ rows: 39, missing: 0, stale: 0 });
    const failures = await failuresGate(contextOf(fixture(), spaces), coverage);
    expect(failures).toMatchObject({ passed: false, value: 1 / 39 });
  });

  test('coverage: an altered source says nothing', async () => {
    const spaces = await twoSpaces(fixture(), { table: 'cov_alter', rows: 5, indexed: false });
    const { source } = spaces;
    const [row] = await fixture().db.query<{ version: string }>(
      `SELECT xmin::text AS version FROM freshvec.source WHERE id = $1`,
      [source.id],
    );
    const present = { ...spaces, source: { ...source, version: row?.version ?? '' } };
    expect(await gateOf(present)).toMatchObject({ passed: true });
    await fixture().db.query(`UPDATE freshvec.source SET filter_sql = 'id > 0' WHERE id = $1`, [source.id]);
    expect(await gateOf(present)).toMatchObject({ passed: false, note: expect.stringMatching(/altered/) });
  });

  test('pending: the age of the oldest change or lease of the new space', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'pend', rows: 5, indexed: false });
    const gate = () => pendingGate(contextOf(fixture(), spaces));
    expect(await gate()).toMatchObject({ name: 'pending', passed: true, value: 0, bound: 5 });
    const since = (space: number, seconds: number) =>
      db.query(
        `INSERT INTO freshvec.change (space_id, lane, key, at) VALUES ($1, 1, '1', now() - make_interval(secs => $2))`,
        [space, seconds],
      );
    await since(spaces.from.id, 900);
    expect(await gate()).toMatchObject({ passed: true, value: 0 });
    await since(spaces.to.id, 60);
    const late = await gate();
    expect(late).toMatchObject({ passed: false, bound: 5 });
    expect(late.value).toBeGreaterThanOrEqual(60);
    await db.query('DELETE FROM freshvec.change');
    expect(await gate()).toMatchObject({ passed: true, value: 0 });
    await db.query(
      `INSERT INTO freshvec.lease (space_id, key, expires_at, since) VALUES ($1, '1', now(), now() - interval '100 s')`,
      [spaces.to.id],
    );
    expect((await gate()).value).toBeGreaterThanOrEqual(100);
    await db.query('DELETE FROM freshvec.lease');
    await db.query(
      `INSERT INTO freshvec.range (space_id, purpose, relation_oid, filenode, from_page, to_page)
       VALUES ($1, 'load', 'pend'::regclass, pg_relation_filenode('pend'), 0, 1)`,
      [spaces.to.id],
    );
    expect(await gate()).toMatchObject({ passed: false, note: expect.stringMatching(/1 ranges of pages/) });
    await db.query('DELETE FROM freshvec.range');
  });

  test('failures: their share of the rows, without those that a person has discarded', async () => {
    const { db } = fixture();
    const spaces = await twoSpaces(fixture(), { table: 'fail', rows: 200, indexed: false });
    const gate = async (failedShare: number) => {
      const context = contextOf(fixture(), spaces, { failedShare });
      return failuresGate(context, await readCoverage(context));
    };
    expect(await gate(0)).toMatchObject({ name: 'failures', passed: true, value: 0 });
    await db.query(
      'UPDATE fail SET embedding_2 = NULL, embedding_2_model = NULL, embedding_2_hash = NULL WHERE id <= 2',
    );
    for (const [space, id] of [
      [spaces.to.id, 1],
      [spaces.to.id, 2],
      [spaces.from.id, 2],
    ]) {
      await db.query(
        `INSERT INTO freshvec.failure (space_id, key, code, message, attempts, hash)
         SELECT $1, id::text, 'input_rejected', 'no', 1, freshvec.content_hash(body) FROM fail WHERE id = $2`,
        [space, id],
      );
    }
    const over = await gate(0.001);
    expect(over).toMatchObject({ passed: false, value: 0.01, bound: 0.001 });
    expect(over.note).toMatch(
      /^2 of 200 rows failed, 1 of them under the old model too: `freshvec failures list fail`/,
    );
    expect(await gate(0.01)).toMatchObject({ passed: true, value: 0.01 });
    await db.query(`UPDATE freshvec.failure SET discarded = true WHERE space_id = $1`, [spaces.to.id]);
    expect(await gate(0.001)).toMatchObject({ passed: true, value: 0 });
    // Discarded, it is still known.
    expect(await gateOf(spaces)).toMatchObject({ passed: true });
  });
});
