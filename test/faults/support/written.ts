import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import type { Database } from '../../../src/db/database.js';

/** From now on keeps every vector that is ever written into `doc` (store `column`), with the hash that it is said to be of. */
export async function keepVectors(db: Database): Promise<void> {
  await db.exec(`
    CREATE TABLE oracle.vector (id bigint GENERATED ALWAYS AS IDENTITY, hash text, model text, vector real[]);
    CREATE FUNCTION oracle.keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO oracle.vector (hash, model, vector)
      VALUES (NEW.embedding_hash::text, NEW.embedding_model, NEW.embedding::real[]);
      RETURN NULL;
    END $$;
    CREATE TRIGGER oracle_keep AFTER UPDATE OF embedding ON doc
      FOR EACH ROW WHEN (NEW.embedding IS NOT NULL) EXECUTE FUNCTION oracle.keep()`);
}

/**
 * Every vector that was ever written, also for a moment only, is that of the text whose hash it carries.
 * @param texts all that the provider was asked for
 */
export async function assertVectorsTrue(
  db: Database,
  texts: Iterable<string>,
  vectorOf: (text: string) => Float32Array,
): Promise<void> {
  const byHash = new Map<string, string>();
  for (const text of texts) byHash.set(createHash('md5').update(text).digest('hex'), text);
  const rows = await db.query<{ hash: string; vector: number[] }>('SELECT hash, vector FROM oracle.vector ORDER BY id');
  const wrong = rows.filter(({ hash, vector }) => {
    const text = byHash.get(hash.replaceAll('-', ''));
    const expected = text === undefined ? [] : vectorOf(text);
    return vector.length !== expected.length || !vector.every((x, i) => Math.fround(x) === expected[i]);
  });
  expect(wrong.length, `of ${rows.length} vectors that were written`).toBe(0);
  expect(rows.length).toBeGreaterThan(0);
}
