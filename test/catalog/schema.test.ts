import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { applySchema, assertSchema, dropSchema, schemaStatus } from '../../src/catalog/schema.js';
import { schemaFiles } from '../../src/catalog/schema-files.js';
import type { Database } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import { freshDatabase, type TestDatabase } from '../support/database.js';
import { freshEmbedded } from '../support/embedded.js';

const latest = schemaFiles().at(-1)?.version ?? 0;
const all = schemaFiles().map(({ version, name }) => ({ version, name }));

async function startEmpty(db: Database): Promise<void> {
  await dropSchema(db);
}

function suite(open: () => Promise<Database>, close: () => Promise<void>): void {
  let db: Database;
  beforeAll(async () => {
    db = await open();
  });
  afterAll(async () => {
    await db.close();
    await close();
  });

  test('is missing before it is applied, and says what to do', async () => {
    await startEmpty(db);
    expect(await schemaStatus(db)).toEqual({ current: 0, latest, pending: all, tooNew: [], compatible: false });
    await expect(assertSchema(db)).rejects.toMatchObject({
      code: 'schema_missing',
      message: expect.stringContaining('freshvec schema apply'),
    });
  });

  test('is applied once, however often and from however many it is asked for', async () => {
    await startEmpty(db);
    const results = await Promise.all([1, 2, 3].map(() => applySchema(db, { queueBackend: 'postgres' })));
    const versions = results.flatMap(({ applied }) => applied.map(({ version }) => version)).sort((a, b) => a - b);
    expect(versions).toEqual(all.map(({ version }) => version));
    for (const { current } of results) expect(current).toBe(latest);
    expect(await applySchema(db, { queueBackend: 'postgres' })).toEqual({ applied: [], current: latest });
    await assertSchema(db, { queueBackend: 'postgres' });
    expect(await schemaStatus(db)).toMatchObject({ queueBackend: 'postgres', pending: [], compatible: true });
  });

  test('refuses another queue backend and names both', async () => {
    await startEmpty(db);
    await applySchema(db, { queueBackend: 'redis' });
    const refused = { code: 'queue_backend_mismatch', message: expect.stringMatching(/"redis".*"postgres"/) };
    await expect(assertSchema(db, { queueBackend: 'postgres' })).rejects.toMatchObject(refused);
    await expect(applySchema(db, { queueBackend: 'postgres' })).rejects.toMatchObject(refused);
    await assertSchema(db);
  });

  test('is outdated while a migration is missing', async () => {
    await startEmpty(db);
    await applySchema(db, { queueBackend: 'redis' });
    await db.query('DELETE FROM freshvec.schema_version WHERE version = $1', [latest]);
    expect(await schemaStatus(db)).toMatchObject({ pending: [all.at(-1)], compatible: false });
    await expect(assertSchema(db)).rejects.toMatchObject({
      code: 'schema_outdated',
      message: expect.stringContaining(all.at(-1)?.name ?? ''),
    });
  });

  test('works with newer safe migrations, refuses newer breaking ones', async () => {
    await startEmpty(db);
    await applySchema(db, { queueBackend: 'redis' });
    await db.query(`INSERT INTO freshvec.schema_version VALUES (9001, 'harmless', false, 'x')`);
    await assertSchema(db);
    expect(await schemaStatus(db)).toMatchObject({ current: 9001, latest, compatible: true });
    await db.query(`INSERT INTO freshvec.schema_version VALUES (9002, 'upheaval', true, 'x')`);
    const refused = { code: 'schema_too_new', message: expect.stringContaining('9002_upheaval') };
    await expect(assertSchema(db)).rejects.toMatchObject(refused);
    await expect(applySchema(db, { queueBackend: 'redis' })).rejects.toMatchObject(refused);
  });

  test('refuses a migration whose text changed after it was applied', async () => {
    await startEmpty(db);
    await applySchema(db, { queueBackend: 'redis' });
    await db.query(`UPDATE freshvec.schema_version SET checksum = 'other' WHERE version = 1`);
    await expect(applySchema(db, { queueBackend: 'redis' })).rejects.toMatchObject({ code: 'schema_altered' });
  });

  test('a migration that fails leaves nothing of itself', async () => {
    await startEmpty(db);
    await db.exec('CREATE SCHEMA freshvec; CREATE TABLE freshvec.failure (mine int)');
    await expect(applySchema(db, { queueBackend: 'redis' })).rejects.toThrow('"failure" already exists');
    expect(await schemaStatus(db)).toMatchObject({ current: 0, compatible: false });
    await db.exec('DROP TABLE freshvec.failure');
    expect((await applySchema(db, { queueBackend: 'redis' })).applied).toEqual(all);
  });

  test('dropSchema takes everything away and may be run twice', async () => {
    await applySchema(db, { queueBackend: 'redis' });
    await db.exec('CREATE SCHEMA freshvec_bullmq');
    await dropSchema(db);
    await dropSchema(db);
    const left = await db.query(`SELECT nspname FROM pg_namespace WHERE nspname LIKE 'freshvec%'`);
    expect(left).toEqual([]);
  });
}

test('a role that may not create a schema is told so', async () => {
  const database = await freshDatabase();
  const role = `${database.name}_guest`;
  const owner = await openServer(database.url);
  const url = new URL(database.url);
  url.username = role;
  url.password = 'x';
  const guest = await openServer(url.href);
  try {
    await owner.exec(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`);
    await expect(applySchema(guest, { queueBackend: 'redis' })).rejects.toMatchObject({ code: 'privilege_missing' });
    await owner.exec(`DROP ROLE ${role}`);
  } finally {
    await guest.close();
    await owner.close();
    await database.drop();
  }
});

describe('PostgreSQL', () => {
  let database: TestDatabase;
  suite(
    async () => {
      database = await freshDatabase();
      return openServer(database.url);
    },
    () => database.drop(),
  );
});

describe('PGlite', () => {
  suite(
    () => freshEmbedded(),
    async () => undefined,
  );
});

describe('pgvector', () => {
  let database: TestDatabase;
  let db: Database;
  beforeAll(async () => {
    database = await freshDatabase();
    db = await openServer(database.url);
    await db.query('DROP EXTENSION vector');
  });
  afterAll(async () => {
    await db.close();
    await database.drop();
  });

  test('a role that may not create it is told whom to ask', async () => {
    const role = `${database.name}_novice`;
    await db.exec(`CREATE ROLE ${role} LOGIN PASSWORD 'x'; GRANT CREATE ON DATABASE ${database.name} TO ${role}`);
    const url = new URL(database.url);
    url.username = role;
    url.password = 'x';
    const novice = await openServer(url.href);
    try {
      await expect(applySchema(novice, { queueBackend: 'redis' })).rejects.toMatchObject({ code: 'pgvector_missing' });
    } finally {
      await novice.close();
      await db.exec(`REVOKE ALL ON DATABASE ${database.name} FROM ${role}; DROP ROLE ${role}`);
    }
  });

  test('is created where it is missing, in whatever schema comes first', async () => {
    await db.exec(`CREATE SCHEMA "Ext ensions"`);
    await db.exec(`CREATE EXTENSION vector SCHEMA "Ext ensions"`);
    expect((await applySchema(db, { queueBackend: 'redis' })).current).toBe(latest);
  });

  test('is refused when it is too old', async () => {
    const old = await openServer(database.url);
    try {
      await db.query(`UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'`);
      await expect(applySchema(old, { queueBackend: 'redis' })).rejects.toMatchObject({
        code: 'pgvector_too_old',
        message: expect.stringContaining('0.7.4'),
      });
    } finally {
      await old.close();
    }
  });
});

function openServer(url: string): Promise<Database> {
  return openDatabase({
    kind: 'postgres',
    url,
    poolSize: 4,
    applicationName: 'freshvec-test',
    onError: () => undefined,
  });
}
