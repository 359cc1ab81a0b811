import type { Source } from '../../src/catalog/source.js';
import type { Space } from '../../src/catalog/space.js';
import type { SourceDefinition } from '../../src/source/index.js';
import type { Fixture } from '../support/fixture.js';

export interface VectorSource extends Pick<SourceDefinition, 'store' | 'type' | 'm' | 'efConstruction' | 'index'> {
  readonly table: string;
  readonly rows: number;
  readonly dimensions: number;
  readonly partitions?: number;
  /** Rows without a vector besides. */
  readonly nulls?: number;
  /** So many vectors are different from one another; all unless told. */
  readonly distinct?: number;
}

/** A source whose rows have random vectors already: nothing is to be embedded, and an index has not been built. */
export async function vectorSource(
  { db, add }: Pick<Fixture, 'db' | 'add'>,
  { table, rows, dimensions, partitions = 0, nulls = 0, distinct = rows, ...definition }: VectorSource,
): Promise<{ source: Source; space: Space }> {
  await db.exec(
    `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text) ${partitions > 0 ? 'PARTITION BY HASH (id)' : 'WITH (autovacuum_enabled = false)'}`,
  );
  for (let i = 0; i < partitions; i++) {
    await db.exec(
      `CREATE TABLE ${table}_${i} PARTITION OF ${table} FOR VALUES WITH (MODULUS ${partitions}, REMAINDER ${i}) WITH (autovacuum_enabled = false)`,
    );
  }
  const { source, space } = await add({
    ...{ table, content: { columns: ['body'] }, model: `fake/m@${dimensions}`, store: 'column' },
    ...definition,
  });
  const type = space.type;
  const vectors = `SELECT i AS id, 'note ' || i AS body, md5('note ' || i)::uuid AS hash, v.vector
    FROM generate_series(1, ${rows}) i
    JOIN (SELECT j, (SELECT array_agg(random() - 0.5) FROM generate_series(1, ${dimensions} + 0 * j))::${type} AS vector
          FROM generate_series(0, ${distinct - 1}) j) v ON v.j = i % ${distinct}`;
  await db.exec(
    space.store === 'column'
      ? `INSERT INTO ${table} (id, body, embedding, embedding_model, embedding_hash, embedding_stale)
         SELECT id, body, vector, '${space.fingerprint}', hash, false FROM (${vectors}) v`
      : `WITH v AS (${vectors}), r AS (INSERT INTO ${table} SELECT id, body FROM v)
         INSERT INTO freshvec.vector_${space.id} (id, hash, model, embedding)
         SELECT id, hash, '${space.fingerprint}', vector FROM v;
         ALTER TABLE freshvec.vector_${space.id} SET (autovacuum_enabled = false)`,
  );
  if (nulls > 0)
    await db.exec(`INSERT INTO ${table} (id, body) SELECT i, '' FROM generate_series(${rows + 1}, ${rows + nulls}) i`);
  await db.exec(
    `DELETE FROM freshvec.change WHERE space_id = ${space.id}; DELETE FROM freshvec.change_pack WHERE space_id = ${space.id}; DELETE FROM freshvec.range WHERE space_id = ${space.id}`,
  );
  return { source, space };
}
