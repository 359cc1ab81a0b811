import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { dropSchema } from '../../src/catalog/schema.js';
import type { Database } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import {
  alterSource,
  applySource,
  planAlter,
  planSource,
  restlessRefusals,
  type SourceDefinition,
} from '../../src/source/index.js';
import { addSource, ENGINES, MODEL, openServer, type Subject } from '../capture/support.js';
import { snapshot } from './snapshot.js';

const content = { columns: ['title'] };
type Definition = Omit<SourceDefinition, 'model' | 'content'> & Partial<Pick<SourceDefinition, 'content'>>;

const plan = (db: Database, definition: Definition, model = MODEL) =>
  planSource(db, { content, ...definition, model: model.spec }, model);

describe.for(ENGINES)('source add refuses on %s', ([, open]) => {
  let subject: Subject;
  let db: Database;
  beforeAll(async () => {
    subject = await open();
    db = subject.db;
    const columns = 'id bigint PRIMARY KEY, title text, body text, n int';
    for (const sql of [
      `CREATE TABLE memory (${columns})`,
      `CREATE TABLE "Mixed" (${columns})`,
      'CREATE VIEW v AS SELECT * FROM memory',
      'CREATE MATERIALIZED VIEW mv AS SELECT * FROM memory',
      'CREATE SEQUENCE s',
      `CREATE TABLE nokey (id bigint, title text)`,
      'CREATE UNIQUE INDEX ON nokey (id)',
      'CREATE TABLE partial (id bigint NOT NULL, title text)',
      'CREATE UNIQUE INDEX ON partial (id) WHERE id > 5',
      'CREATE TABLE badkey (id numeric PRIMARY KEY, title text)',
      `CREATE TABLE parent (${columns})`,
      'CREATE TABLE child () INHERITS (parent)',
      'CREATE TABLE parted (id int PRIMARY KEY, title text) PARTITION BY RANGE (id)',
      'CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (10)',
      'CREATE TABLE taken (id int PRIMARY KEY, title text, embedding text)',
      'CREATE TABLE taken2 (id int PRIMARY KEY, title text, embedding_hash text, embedding_stale boolean)',
      'CREATE TABLE theirs (id int PRIMARY KEY, title text, embedding vector(8))',
      `INSERT INTO theirs VALUES (1, 'x', '[1,2,3,4,5,6,7,8]')`,
      'CREATE TABLE sent (id int PRIMARY KEY, title text)',
      'CREATE TABLE twice (id int PRIMARY KEY, title text)',
      `CREATE TABLE fails (id int PRIMARY KEY, title text)`,
      `INSERT INTO fails VALUES (1, 'x')`,
      'CREATE TABLE reserved (id int PRIMARY KEY, title text, __fv_key int)',
    ]) {
      await db.query(sql);
    }
    await addSource(db, { table: 'twice', content });
  });
  afterAll(() => subject.close());

  const reads = (sql: string) => ({ table: 'memory', content: { sql } });

  test.for<[string, Definition, RegExp]>([
    ['a table that is not there', { table: 'memry' }, /no such table.*Did you mean "memory"/],
    ['a name that is no name', { table: 'a"b' }, /no such table/],
    ['a schema that is not there', { table: 'nowhere.memory' }, /no such table/],
    ['a view', { table: 'v' }, /it is a view.*Add the table that holds the text/],
    ['a materialized view', { table: 'mv' }, /materialized view/],
    ['a sequence', { table: 's' }, /sequence/],
    ['a table of the system', { table: 'pg_catalog.pg_class' }, /belongs to PostgreSQL/],
    ["freshvec's own", { table: 'freshvec.source' }, /belongs to PostgreSQL or to freshvec/],
    ['no key', { table: 'nokey' }, /no primary key and no unique index over NOT NULL.*ADD COLUMN id/],
    ['a partial unique index', { table: 'partial' }, /no primary key/],
    ['a key of another type', { table: 'badkey' }, /key column "id" is of type numeric; keys may be of .*uuid/],
    ['a parent in inheritance', { table: 'parent' }, /plain inheritance.*declarative partitioning/],
    ['a child in inheritance', { table: 'child' }, /plain inheritance/],
    ['a partition', { table: 'parted_1' }, /is a partition: add public.parted/],
    [
      'a column that is not there',
      { table: 'memory', content: { columns: ['titel'] } },
      /"titel".*Did you mean "title"/,
    ],
    ['no content', { table: 'memory', content: { columns: [] } }, /no content/],
    ['blank content', reads(' '), /no content|not valid SQL/],
    ['a tenant that is not there', { table: 'memory', tenant: 'team' }, /tenant names the column "team"/],
    ['a filter that is no condition', { table: 'memory', where: 'n + 1' }, /filter is not valid SQL.*boolean/],
    ['a filter with an error', { table: 'memory', where: 'n >' }, /filter is not valid SQL.*syntax error/],
    ['an unknown column in SQL', reads('titel'), /content is not valid SQL.*titel/],
    ['two statements', reads('title) IS NULL; DROP TABLE memory; --'), /content is not valid SQL/],
    ['a comment that eats the rest', reads('title -- x'), /content is not valid SQL/],
    [
      'content that names the table with its schema',
      reads(`public.memory.title || public.memory.body`),
      /content is not valid SQL.*name the columns alone, or as "memory"\.COLUMN/,
    ],
    ['an aggregate', reads('max(title)'), /content is not valid SQL.*aggregate/],
    ['a window function', reads('lag(title) OVER ()'), /content is not valid SQL.*window/],
    ['a set', reads("regexp_split_to_table(title, ' ')"), /content is not valid SQL.*set-returning/],
    ['a subquery', reads('(SELECT t.title FROM twice t WHERE t.id = memory.id)'), /subquery/],
    ['a volatile function', reads('title || random()'), /calls random\(\)/],
    ['the time', reads('title || now()'), /depends on the time/],
    ['the time by another name', reads(`title || CURRENT_DATE`), /depends on the time/],
    ['an age', reads(`title || age('2020-01-01'::timestamptz)`), /depends on the time/],
    ['a system column', reads('title || xmin::text'), /system column xmin/],
    ['the row as a whole', reads('memory::text'), /row as a whole.*--store table/],
    [
      'content that fails on a row',
      { table: 'fails', content: { sql: '(title::int)::text' } },
      /fails on one of its rows/,
    ],
    [
      'its own column',
      { table: 'twice', name: 'x', column: 'e2', content: { columns: ['embedding_model'] } },
      /"embedding_model", which freshvec writes/,
    ],
    [
      'the same column twice',
      { table: 'twice', name: 'x' },
      /"embedding" belongs to the source "twice".*--column NAME/,
    ],
    [
      'a column of another type',
      { table: 'taken' },
      /column "embedding" is taken: it is text and would have to be vector\(8\)/,
    ],
    [
      'companions of other types',
      { table: 'taken2' },
      /"embedding_hash" is taken[\s\S]*"embedding_stale" is taken.*NOT NULL/,
    ],
    ['vectors of somebody else', { table: 'theirs' }, /holds vectors that freshvec did not make/],
    ['a name that is too long', { table: 'memory', column: 'x'.repeat(58) }, /63 bytes.*--column NAME/],
    ['m out of bounds', { table: 'memory', m: 1 }, /m must be/],
    ['ef_construction below 2 × m', { table: 'memory', m: 50, efConstruction: 64 }, /at least 2 × m/],
    ["a column with freshvec's prefix", { table: 'reserved' }, /"__fv_key".*Rename it/],
  ])('%s', async ([, definition, message]) => {
    const before = await snapshot(db);
    await expect(plan(db, definition)).rejects.toMatchObject({
      code: expect.stringMatching(/^source_refused$/),
      message: expect.stringMatching(message),
    });
    expect(await snapshot(db)).toEqual(before);
  });

  test('too many dimensions for the index, by type', async () => {
    const large = (dimensions: number) => ({ ...MODEL, dimensions });
    const table = 'memory';
    await expect(plan(db, { table }, large(2001))).rejects.toThrow(/at most 2000.*--type halfvec.*--index none/);
    await expect(plan(db, { table, type: 'halfvec' }, large(4001))).rejects.toThrow(/at most 4000(?!.*--type halfvec)/);
    await expect(plan(db, { table }, large(4001))).rejects.toThrow(/at most 2000(?!.*--type halfvec)/);
    await expect(plan(db, { table, index: 'none' }, large(16_001))).rejects.toThrow(/1 to 16000/);
    await plan(db, { table, type: 'halfvec' }, large(4000));
    await plan(db, { table, index: 'none' }, large(3072));
    await plan(db, { table }, large(2000));
  });

  test('content that an UPDATE trigger sets, unless vectors are in a table of their own', async () => {
    await db.exec(`CREATE TABLE touched (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, slug text, updated_at timestamptz DEFAULT '2020-01-01');
      CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        NEW.updated_at := now(); NEW.slug := lower(NEW.title); RETURN NEW; END $$;
      CREATE TRIGGER touch BEFORE UPDATE ON touched FOR EACH ROW EXECUTE FUNCTION touch()`);
    const onRows = (...columns: string[]) => plan(db, { table: 'touched', store: 'column', content: { columns } });
    const apply = async (...columns: string[]) => applySource(db, await onRows(...columns));
    expect(await restlessRefusals(db, (await onRows('title', 'updated_at')).source)).toEqual([]); // Nothing can be tried.
    await db.query(`INSERT INTO touched (title, slug) VALUES ('One', 'one'), ('Two', 'Two')`);
    const before = await snapshot(db);
    await expect(apply('title', 'updated_at')).rejects.toMatchObject({
      code: 'source_refused',
      message: expect.stringMatching(/triggers \(touch\) change the content.*Leave the column.*--store table/),
    });
    for (const columns of [['title'], ['title', 'slug']])
      expect(await restlessRefusals(db, (await onRows(...columns)).source)).toEqual([]);
    await plan(db, { table: 'touched', store: 'table', content: { columns: ['title', 'updated_at'] } });
    expect(await snapshot(db)).toEqual(before);
    expect(await db.query(`SELECT FROM touched WHERE updated_at > '2020-01-01'`)).toEqual([]);
    const { source } = await addSource(db, { table: 'touched', store: 'column', content });
    const changes = { content: { columns: ['title', 'updated_at'] } };
    expect((await planAlter(db, source.name, changes)).statements).not.toEqual([]);
    await expect(alterSource(db, source.name, changes)).rejects.toMatchObject({ code: 'source_refused' });
  });

  test('all reasons at once', async () => {
    const refused = plan(db, { table: 'memory', content: { columns: ['titel'] }, tenant: 'team', where: 'n' });
    await expect(refused).rejects.toMatchObject({ reasons: { length: 3 } });
  });

  test('a name that stands for another source', async () => {
    const refused = { code: 'source_exists' };
    await expect(plan(db, { table: 'memory', name: 'twice' })).rejects.toMatchObject(refused);
    await expect(plan(db, { table: 'twice', metric: 'l2' })).rejects.toThrow(/another metric.*source alter/);
    await expect(plan(db, { table: 'twice', content: { columns: ['id'] } })).rejects.toThrow(/another content/);
  });

  test('a name in mixed case needs no quotes', async () => {
    expect((await plan(db, { table: 'Mixed' })).source.relation.table).toBe('Mixed');
    expect((await plan(db, { table: 'public.Mixed' })).source.relation.table).toBe('Mixed');
    expect((await plan(db, { table: 'PUBLIC.Memory' })).source.relation.table).toBe('memory');
  });

  test('a published table in column mode, and proposes the other store', async ({ skip }) => {
    if (db.kind === 'pglite') skip();
    await db.query('CREATE PUBLICATION app_changes FOR TABLE sent');
    await expect(plan(db, { table: 'sent', store: 'column' })).rejects.toThrow(
      /app_changes.*--store table.*column list/,
    );
    const proposed = await plan(db, { table: 'sent' });
    expect(proposed).toMatchObject({ proposedStore: 'table', space: { store: 'table' } });
    expect(proposed.notes.join('\n')).toMatch(/published \(app_changes\)/);
    await db.query('ALTER PUBLICATION app_changes SET TABLE sent (id, title)');
    expect(await plan(db, { table: 'sent' })).toMatchObject({ proposedStore: 'column' });
    await db.query('ALTER PUBLICATION app_changes SET TABLES IN SCHEMA public');
    expect(await plan(db, { table: 'sent' })).toMatchObject({ proposedStore: 'table' });
    await db.query('DROP PUBLICATION app_changes');
  });
});

describe('source add refuses for roles and databases that are not set up', () => {
  let subject: Subject;
  let db: Database;
  const role = `fv_src_${process.pid}_${Math.random().toString(36).slice(2, 7)}`;
  beforeAll(async () => {
    subject = await openServer();
    db = subject.db;
    await db.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x' NOSUPERUSER`);
    await db.query('CREATE TABLE memory (id int PRIMARY KEY, title text)');
    await db.query(`GRANT ALL ON SCHEMA freshvec TO ${role}`);
    await db.query(`GRANT ALL ON ALL TABLES IN SCHEMA freshvec TO ${role}`);
    await db.query(`GRANT ALL ON ALL SEQUENCES IN SCHEMA freshvec TO ${role}`);
  });
  afterAll(async () => {
    await db.query(`REASSIGN OWNED BY ${role} TO CURRENT_USER`);
    await db.query(`DROP OWNED BY ${role}`);
    await db.query(`DROP ROLE ${role}`);
    await subject.close();
  });

  function asRole<T>(fn: (db: Database) => Promise<T>): Promise<T> {
    const url = new URL(subject.url ?? '');
    url.username = role;
    url.password = 'x';
    return connected(url.href, fn);
  }

  async function connected<T>(url: string | undefined, fn: (db: Database) => Promise<T>): Promise<T> {
    const own = await openDatabase({
      kind: 'postgres',
      url: url ?? '',
      poolSize: 2,
      applicationName: 'freshvec-test',
      onError: () => undefined,
    });
    try {
      return await fn(own);
    } finally {
      await own.close();
    }
  }

  test('a table of somebody else', async () => {
    await asRole((own) => expect(plan(own, { table: 'memory' })).rejects.toThrow(/does not own it.*GRANT/));
  });

  test('a schema in which it may not make an index; and then it works without superuser', async () => {
    await db.query(`ALTER TABLE memory OWNER TO ${role}`);
    await asRole((own) => expect(plan(own, { table: 'memory' })).rejects.toThrow(/GRANT CREATE ON SCHEMA public/));
    await db.query(`GRANT CREATE ON SCHEMA public TO ${role}`);
    await asRole((own) => addSource(own, { table: 'memory', content }));
  });

  test('row-level security that hides rows from it', async () => {
    await db.query('CREATE TABLE secret (id int PRIMARY KEY, title text)');
    await db.query(`ALTER TABLE secret OWNER TO ${role}`);
    await db.query('ALTER TABLE secret ENABLE ROW LEVEL SECURITY');
    await asRole((own) => plan(own, { table: 'secret' }));
    await db.query('ALTER TABLE secret FORCE ROW LEVEL SECURITY');
    await asRole((own) =>
      expect(plan(own, { table: 'secret' })).rejects.toThrow(/BYPASSRLS.*NO FORCE ROW LEVEL SECURITY/),
    );
    await db.query(`ALTER ROLE ${role} BYPASSRLS`);
    await asRole((own) => plan(own, { table: 'secret' }));
  });

  test('a role without the right to make temporary views, and one that may not call what the content calls', async () => {
    const [{ name = '' } = {}] = await db.query<{ name: string }>('SELECT current_database() AS name');
    await db.query(`CREATE FUNCTION hushed(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'`);
    await db.query('REVOKE ALL ON FUNCTION hushed FROM PUBLIC');
    const definition = { table: 'memory', name: 'other', column: 'other' };
    await asRole((own) =>
      expect(plan(own, { ...definition, content: { sql: 'hushed(title)' } })).rejects.toThrow(
        /its content needs more than the role fv_src_\w+ may: permission denied for function hushed/,
      ),
    );
    await db.query(`REVOKE TEMPORARY ON DATABASE ${name} FROM PUBLIC`);
    await asRole((own) =>
      expect(plan(own, { ...definition, where: 'id > 0' })).rejects.toThrow(
        new RegExp(`: the role \\w+ may not create temporary views.*GRANT TEMPORARY ON DATABASE ${name} TO ${role}\\.`),
      ),
    );
    await db.query(`GRANT TEMPORARY ON DATABASE ${name} TO ${role}`);
    await asRole((own) => plan(own, { ...definition, where: 'id > 0' }));
  });

  test('a temporary table, and a foreign one', async () => {
    await db.query('CREATE EXTENSION IF NOT EXISTS file_fdw');
    await db.query('CREATE SERVER files FOREIGN DATA WRAPPER file_fdw');
    await db.query(`CREATE FOREIGN TABLE elsewhere (id int, title text) SERVER files OPTIONS (filename '/dev/null')`);
    await expect(plan(db, { table: 'elsewhere' })).rejects.toThrow(/foreign table/);
    await db.query(`CREATE TABLE far (id int NOT NULL, title text) PARTITION BY RANGE (id)`);
    await db.query(
      `CREATE FOREIGN TABLE far_1 PARTITION OF far FOR VALUES FROM (1) TO (2) SERVER files OPTIONS (filename '/dev/null')`,
    );
    await expect(plan(db, { table: 'far' })).rejects.toThrow(/one of its partitions is a foreign table/);
  });

  test('a database without the schema, and one without pgvector', async () => {
    const other = await openServer();
    try {
      await other.db.query('CREATE TABLE memory (id int PRIMARY KEY, title text)');
      await other.db.query('DROP EXTENSION vector CASCADE');
      await connected(other.url, (own) =>
        expect(plan(own, { table: 'memory' })).rejects.toThrow(/pgvector is not in this database.*CREATE EXTENSION/),
      );
      await dropSchema(other.db);
      await expect(plan(other.db, { table: 'memory' })).rejects.toMatchObject({ code: 'schema_missing' });
    } finally {
      await other.close();
    }
  });
});
