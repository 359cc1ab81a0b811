import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import * as control from '../../src/reembed/control.js';
import { oldReaders } from '../../src/reembed/readers.js';
import { migrationStatus } from '../../src/reembed/status.js';
import { createAnnouncer } from '../../src/search/announcer.js';
import { createPointerCache, type SearchDeps, search } from '../../src/search/index.js';
import { eventually } from '../support/eventually.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';
import { start, workUntil } from './support.js';

interface ReaderRow extends Record<string, unknown> {
  readonly id: string;
  readonly epoch: number;
  readonly name: string;
}

const readers = (db: Database) =>
  db.query<ReaderRow>('SELECT id::text, epoch, name FROM freshvec.reader ORDER BY epoch, id');

describe.each<Engine>(['postgres', 'pglite'])('readers on %s', (engine) => {
  let fixture: Fixture;
  let migrationId: number;
  let sourceId: number;
  const opened: { close(): Promise<void> }[] = [];

  beforeEach(async () => {
    fixture = await openFixture(engine);
    await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 20) i`);
    sourceId = (await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' }))
      .source.id;
    await fixture.work();
    ({ id: migrationId } = await start(fixture, 'doc', { model: 'fake/b@12' }));
    await workUntil(fixture, migrationId, ['ready']);
  });
  afterEach(async () => {
    for (const each of opened.splice(0)) await each.close();
    await fixture.close();
  });

  /** A process that searches; renews only when told. `statements` are those that it made to say so. */
  function reader(over: Partial<Database> = {}) {
    const statements: string[] = [];
    const db: Database = Object.assign(Object.create(fixture.db) as Database, {
      query: (text: string, params?: readonly unknown[]) => {
        if (/announce_reader|forget_reader/.test(text)) statements.push(text);
        return fixture.db.query(text, params);
      },
      tx: fixture.db.tx.bind(fixture.db),
      vectorExtension: fixture.db.vectorExtension.bind(fixture.db),
      ...over,
    });
    const pointers = createPointerCache();
    const announcer = createAnnouncer({ pointers, renewMs: 2 ** 30 });
    opened.push(announcer);
    const embedQuery = async (spec: string, text: string) => {
      const model = await fixture.models.get(spec);
      const { vectors } = await model.embed([text], { purpose: 'query', signal: new AbortController().signal });
      return vectors[0] ?? new Float32Array();
    };
    const deps: SearchDeps = { db, embedQuery, pointers, announcer };
    const find = () => search(deps, 'doc', { text: 'text number 3', k: 2 });
    return { find, announcer, pointers, statements };
  }

  it('says so after the first search, and again only when the epoch changes', async () => {
    const { db } = fixture;
    const { find, statements, announcer } = reader();
    for (let i = 0; i < 5; i++) await find();
    const [row] = await eventually(async () => {
      const rows = await readers(db);
      return rows.length > 0 && rows;
    });
    expect(row).toMatchObject({ epoch: 1, name: expect.stringContaining(`:${process.pid}`) });
    expect(statements).toHaveLength(1);
    await control.cutover(db, 'doc');
    for (let i = 0; i < 5; i++) expect((await find()).epoch).toBe(2);
    await eventually(async () => (await readers(db))[0]?.epoch === 2);
    expect(statements).toHaveLength(2);
    await announcer.close();
    expect(await readers(db)).toEqual([]);
  });

  it('complete is refused while somebody is left on the old space, and names him', async () => {
    const { db } = fixture;
    const { find, announcer, pointers } = reader();
    await find();
    await eventually(async () => (await readers(db)).length === 1);
    await control.cutover(db, 'doc');
    await expect(control.complete(db, 'doc')).rejects.toMatchObject({
      code: 'migration_refused',
      message: expect.stringContaining(`:${process.pid}`),
    });
    const status = await migrationStatus(db, 'doc');
    expect(status.state).toBe('soaking');
    expect(status.readers).toEqual([expect.stringContaining('epoch 1')]);

    // It does not search any more: the renewal alone moves it on.
    await announcer.renew();
    expect(pointers.get('doc')).toBeUndefined();
    expect(await oldReaders(db, sourceId)).toEqual([]);
    expect((await control.complete(db, 'doc')).state).toBe('contracting');
    expect((await find()).epoch).toBe(2);
  });

  it('a process whose word ran out holds nobody up', async () => {
    const { db } = fixture;
    const { find } = reader();
    await find();
    await eventually(async () => (await readers(db)).length === 1);
    await control.cutover(db, 'doc');
    expect(await oldReaders(db, sourceId)).toHaveLength(1);
    await db.query(`UPDATE freshvec.reader SET expires_at = clock_timestamp() - interval '1 s'`);
    expect(await oldReaders(db, sourceId)).toEqual([]);
    expect((await control.complete(db, 'doc')).state).toBe('contracting');
  });

  it('a search neither waits nor fails where its word cannot be heard', async () => {
    const { db } = fixture;
    let refuse: (error: Error) => void = () => {};
    const never = new Promise<never>((_, reject) => {
      refuse = reject;
    });
    const { find, announcer } = reader({ query: () => never });
    // The announcement hangs; searches go on.
    for (let i = 0; i < 3; i++) expect((await find()).results).toHaveLength(2);
    refuse(Object.assign(new Error('cannot execute INSERT in a read-only transaction'), { code: '25006' }));
    expect((await find()).results).toHaveLength(2);
    await announcer.renew();
    expect(await readers(db)).toEqual([]);
    await announcer.close();
  });

  it.runIf(engine === 'postgres')('searches where nothing can be written, as on a replica', async () => {
    const url = `${fixture.url}?options=${encodeURIComponent('-c default_transaction_read_only=on')}`;
    const onError = () => {};
    const db = await openDatabase({ kind: 'postgres', url, poolSize: 1, applicationName: 'reads', onError });
    opened.push(db);
    const { find, announcer, statements } = reader({
      query: (text, params) => {
        if (text.includes('announce_reader')) statements.push(text);
        return db.query(text, params);
      },
      tx: db.tx.bind(db),
    });
    for (let i = 0; i < 3; i++) expect((await find()).results).toHaveLength(2);
    await announcer.renew();
    expect(statements).toHaveLength(2); // The first search's, and the renewal's.
    await announcer.close();
    expect(await readers(fixture.db)).toEqual([]);
  });

  it('a liar can name no epoch from the future, and is held to 1,000 rows a source', async () => {
    const { db } = fixture;
    const say = (epoch: number, name: string, source = sourceId) =>
      db.query<{ present: number | null }>('SELECT freshvec.announce_reader($1::uuid, $2, $3, $4) AS present', [
        randomUUID(),
        source,
        epoch,
        name,
      ]);
    expect(await say(99, `evil\u001b[31m\n${'x'.repeat(500)}`)).toEqual([{ present: 1 }]);
    const [row] = await readers(db);
    expect(row?.epoch).toBe(1);
    expect(row?.name).toHaveLength(200);
    expect(row?.name.startsWith('evil[31mxxx')).toBe(true);
    expect(await say(1, 'no such source', 4711)).toEqual([{ present: null }]);
    await db.query(`SELECT freshvec.announce_reader(gen_random_uuid(), $1, 0, 'many') FROM generate_series(1, 1100)`, [
      sourceId,
    ]);
    expect(await readers(db)).toHaveLength(1000);
    // What ran out makes room.
    await db.query(`UPDATE freshvec.reader SET expires_at = clock_timestamp() - interval '1 s'`);
    await say(1, 'an honest one');
    expect((await readers(db)).map(({ name }) => name)).toContain('an honest one');
  });

  it('nobody changes or takes back what another role said', async () => {
    const { db } = fixture;
    const id = randomUUID();
    await db.query(`SELECT freshvec.announce_reader($1::uuid, $2, 1, 'ours')`, [id, sourceId]);
    await db.query(`UPDATE freshvec.reader SET role = 'somebody_else'`);
    await db.query('SELECT freshvec.forget_reader($1::uuid)', [id]);
    await db.query(`SELECT freshvec.announce_reader($1::uuid, $2, 1, 'not ours')`, [id, sourceId]);
    expect(await readers(db)).toMatchObject([{ id, name: 'ours' }]);
  });
});
