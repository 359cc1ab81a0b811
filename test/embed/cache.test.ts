import { createHash } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config/load.js';
import type { Database } from '../../src/db/database.js';
import {
  type CachedVector,
  evictCache,
  forgetHashes,
  forgetModel,
  readCache,
  writeCache,
} from '../../src/embed/cache.js';
import { evictCache as evictInTurn } from '../../src/maintenance/evict-cache.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { withEscapedBytea } from './bytea-output.js';

const MODEL = 'openai/a@b/model@4#0a1b2c3d';
const OTHER = 'openai/other@4#0a1b2c3d';

const hash = (text: string) =>
  createHash('md5')
    .update(text)
    .digest('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
const item = (text: string, vector: Float32Array = Float32Array.of(0.1, -2.5, 3e-30, text.length)) => ({
  hash: hash(text),
  vector,
});
const items = (count: number, dimensions = 4) =>
  Array.from({ length: count }, (_, i) => item(`text ${i}`, new Float32Array(dimensions).fill(i + 1)));

const one = async (db: Database, sql: string) => (await db.query<{ value: number }>(sql))[0]?.value ?? Number.NaN;
const rows = (db: Database) => one(db, 'SELECT count(*) AS value FROM freshvec.embedding_cache');
/** As if they had been written one after the other, whatever order their hashes have. */
const age = (db: Database, written: readonly CachedVector[]) =>
  db.query(
    `UPDATE freshvec.embedding_cache c SET at = now() - make_interval(secs => 10000 - i)
     FROM unnest($1::uuid[]) WITH ORDINALITY AS u(hash, i) WHERE c.hash = u.hash`,
    [written.map((each) => each.hash)],
  );
const used = (db: Database) => one(db, 'SELECT COALESCE(sum(bytes), 0) AS value FROM freshvec.embedding_cache');

describe.each(['postgres', 'pglite'] as const)('the cache on %s', (engine) => {
  let fixture: Fixture;
  let db: Database;
  beforeAll(async () => {
    fixture = await openFixture(engine);
    db = fixture.db;
  });
  afterAll(() => fixture.close());
  beforeEach(() => db.exec('TRUNCATE freshvec.embedding_cache'));

  test('gives back the very floats, by the hash of the text and the model', async () => {
    const [row] = await db.query<{ hash: string }>(`SELECT freshvec.content_hash('héllo') AS hash`);
    const vector = Float32Array.of(-0, 1 / 3, 1.5e-42, -3.4e38);
    expect(await writeCache(db, MODEL, [{ hash: row?.hash ?? '', vector }, item('b')])).toBe(2);
    await writeCache(db, OTHER, [item('b', Float32Array.of(9, 9, 9, 9))]);
    const found = await readCache(db, MODEL, [hash('héllo'), hash('b'), hash('c')]);
    expect([...found.keys()].sort()).toEqual([hash('héllo'), hash('b')].sort());
    expect(found.get(hash('héllo'))).toEqual(vector);
    expect(found.get(hash('b'))).toEqual(item('b').vector);
    expect(await readCache(db, MODEL, [])).toEqual(new Map());
    expect(await writeCache(db, MODEL, [])).toBe(0);
  });

  test('views into a larger buffer, and vectors long enough to be stored out of line', async () => {
    const all = Float32Array.from({ length: 3 * 1536 }, (_, i) => Math.sin(i));
    const parts = [0, 1, 2].map((i) => item(`part ${i}`, all.subarray(i * 1536, (i + 1) * 1536)));
    await writeCache(db, 'openai/x@1536#00000000', parts);
    const found = await readCache(
      db,
      'openai/x@1536#00000000',
      parts.map((part) => part.hash),
    );
    for (const part of parts) expect(found.get(part.hash)).toEqual(part.vector);
  });

  test('what is there stays, and a text may come twice', async () => {
    expect(await writeCache(db, MODEL, [item('a'), item('a', Float32Array.of(7, 7, 7, 7))])).toBe(1);
    expect(await writeCache(db, MODEL, [item('a', Float32Array.of(8, 8, 8, 8)), item('b')])).toBe(1);
    expect((await readCache(db, MODEL, [hash('a')])).get(hash('a'))).toEqual(item('a').vector);
  });

  test('a vector of other dimensions is refused before anything is written', async () => {
    await expect(writeCache(db, MODEL, [item('a'), item('b', Float32Array.of(1, 2))])).rejects.toThrow('2 dimensions');
    expect(await rows(db)).toBe(0);
  });

  test('a damaged row is not given out, goes away, and may be written anew', async () => {
    const texts = ['short', 'ragged', 'nan', 'zero', 'good'];
    await writeCache(
      db,
      MODEL,
      texts.map((text) => item(text)),
    );
    const damage = (text: string, hex: string) =>
      db.query(`UPDATE freshvec.embedding_cache SET vector = decode($2, 'hex') WHERE hash = $1::uuid`, [
        hash(text),
        hex,
      ]);
    await damage('short', '0000803f'.repeat(3));
    await damage('ragged', '00'.repeat(15));
    await damage('nan', `0000c07f${'0000803f'.repeat(3)}`);
    await damage('zero', '00000000'.repeat(4));
    await writeCache(db, OTHER, [item('short')]);
    const hashes = texts.map(hash);
    expect([...(await readCache(db, MODEL, hashes)).keys()]).toEqual([hash('good')]);
    expect(await rows(db)).toBe(2);
    expect(
      await writeCache(
        db,
        MODEL,
        texts.map((text) => item(text)),
      ),
    ).toBe(4);
    expect((await readCache(db, MODEL, hashes)).size).toBe(5);
  });

  test('is erased by text, under every model, or by model', async () => {
    await writeCache(db, MODEL, [item('mine'), item('yours')]);
    await writeCache(db, OTHER, [item('mine'), item('yours')]);
    expect(await forgetHashes(db, [hash('mine'), hash('nobody')])).toBe(2);
    expect(await forgetHashes(db, [])).toBe(0);
    expect((await readCache(db, MODEL, [hash('mine'), hash('yours')])).size).toBe(1);
    expect(await forgetModel(db, MODEL)).toBe(1);
    expect((await readCache(db, OTHER, [hash('yours')])).size).toBe(1);
    expect(await rows(db)).toBe(1);
  });

  test('eviction takes the oldest, down to a tenth below the bound, and leaves what is under it alone', async () => {
    await writeCache(db, MODEL, items(30));
    await age(db, items(30));
    const size = (await used(db)) / 30;
    expect(await evictCache(db, { maxBytes: 30 * size })).toBe(0);
    expect(await evictCache(db, { maxBytes: 10 * size })).toBe(21);
    const left = await readCache(
      db,
      MODEL,
      items(30).map((each) => each.hash),
    );
    expect([...left.keys()].sort()).toEqual(
      items(30)
        .slice(21)
        .map((each) => each.hash)
        .sort(),
    );
    expect(await evictCache(db, { maxBytes: 10 * size })).toBe(0);
    expect(await evictCache(db, { maxBytes: 0 })).toBe(9);
    expect(await evictCache(db, { maxBytes: 0 })).toBe(0);
  });

  test('eviction goes on over many batches, and stops when told to', async () => {
    const all = items(3500);
    await writeCache(db, MODEL, all);
    await age(db, all);
    const stop = AbortSignal.abort(new Error('stopped'));
    await expect(evictCache(db, { maxBytes: 0, signal: stop })).rejects.toThrow('stopped');
    const size = (await used(db)) / 3500;
    expect(await evictCache(db, { maxBytes: 1000 * size })).toBe(2600);
    expect(await used(db)).toBeLessThanOrEqual(1000 * size);
    const both = await Promise.all([evictInTurn(db, 100 * size), evictInTurn(db, 100 * size)]);
    expect(both[0] + both[1]).toBe(810);
    const left = await readCache(
      db,
      MODEL,
      all.map((each) => each.hash),
    );
    expect([...left.keys()].sort()).toEqual(
      all
        .slice(-90)
        .map((each) => each.hash)
        .sort(),
    );
  });

  test.each([64, 256, 768, 1536, 3072])(
    'the size that is summed up is about that on disk (%i dimensions)',
    async (dimensions) => {
      for (let i = 0; i < 10; i += 1) {
        const some = Array.from({ length: 200 }, (_, j) => item(`${i} ${j}`, new Float32Array(dimensions).fill(j + 1)));
        await writeCache(db, `openai/text-embedding-3-small@${dimensions}#0a1b2c3d`, some);
      }
      const onDisk = await one(db, `SELECT pg_total_relation_size('freshvec.embedding_cache') AS value`);
      const ratio = (await used(db)) / onDisk;
      expect(ratio).toBeGreaterThan(0.85);
      expect(ratio).toBeLessThan(1.2);
    },
  );
});

describe('many at once', () => {
  let fixture: Fixture;
  let db: Database;
  beforeAll(async () => {
    fixture = await openFixture();
    db = fixture.db;
  });
  afterAll(() => fixture.close());
  beforeEach(() => db.exec('TRUNCATE freshvec.embedding_cache'));

  test('writers with the same texts in other orders, erasers and evictors do not stand in one another’s way', async () => {
    const all = items(1000);
    const hashes = all.map((each) => each.hash);
    for (let round = 0; round < 5; round += 1) {
      await Promise.all([
        writeCache(db, MODEL, all),
        writeCache(db, MODEL, all.toReversed()),
        forgetHashes(db, hashes.toReversed()),
        evictCache(db, { maxBytes: 20_000 }),
        writeCache(db, MODEL, all.toReversed()),
        forgetHashes(db, hashes),
      ]);
    }
    await writeCache(db, MODEL, all);
    const found = await readCache(db, MODEL, hashes);
    for (const { hash, vector } of all) expect(found.get(hash)).toEqual(vector);
  });

  test('the evictor does not wait for rows that somebody has locked', async () => {
    await writeCache(db, MODEL, items(10));
    const locked = items(1)[0]?.hash;
    const size = (await used(db)) / 10;
    await db.tx(async (tx) => {
      await tx.query('SELECT 1 FROM freshvec.embedding_cache WHERE hash = $1::uuid FOR UPDATE', [locked]);
      expect(await evictCache(db, { maxBytes: 0 })).toBe(9);
    });
    expect(await used(db)).toBe(size);
  });

  test('a role whose bytea_output is another reads the same', async () => {
    await writeCache(db, MODEL, [item('a')]);
    await withEscapedBytea(fixture, async (other) => {
      expect(await other.query('SHOW bytea_output')).toEqual([{ bytea_output: 'escape' }]);
      expect((await readCache(other, MODEL, [hash('a')])).get(hash('a'))).toEqual(item('a').vector);
    });
  });

  test('nothing of it goes to the write-ahead log', async () => {
    expect(
      await db.query(`SELECT relpersistence FROM pg_class WHERE oid = 'freshvec.embedding_cache'::regclass`),
    ).toEqual([{ relpersistence: 'u' }]);
  });
});

describe('the setting', () => {
  const load = (env: Record<string, string>) => loadConfig({ env, file: false });

  test('is off unless told, and takes bytes', async () => {
    expect((await load({})).cache).toEqual({ maxBytes: 0 });
    expect((await load({ FRESHVEC_CACHE_BYTES: '512000000' })).cache).toEqual({ maxBytes: 512_000_000 });
    expect((await load({ FRESHVEC_CACHE_BYTES: '0' })).cache).toEqual({ maxBytes: 0 });
  });

  test.each(['512', '-1', '1.5', '512MB'])('refuses %s and names the variable', async (value) => {
    await expect(load({ FRESHVEC_CACHE_BYTES: value })).rejects.toThrow(/FRESHVEC_CACHE_BYTES/);
  });
});
