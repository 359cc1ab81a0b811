import type { KeyColumn } from '../catalog/source.js';
import type { Executor } from '../db/database.js';

/** Types whose text form is exact and goes back into the same value. */
const KEY_TYPES: ReadonlySet<string> = new Set([
  'smallint',
  'integer',
  'bigint',
  'uuid',
  'text',
  'character varying',
  'date',
  'timestamp without time zone',
  'timestamp with time zone',
]);

/**
 * The primary key; without one, the columns of the narrowest unique index over NOT NULL columns. One whose types will not
 * do only where there is no other. Empty: there is none.
 */
export async function readKey(db: Executor, oid: number): Promise<KeyColumn[]> {
  return db.query<{ name: string; type: string }>(
    `SELECT a.attname AS name, format_type(a.atttypid, NULL) AS type
     FROM (
       SELECT i.indexrelid, i.indkey FROM pg_index i
       WHERE i.indrelid = $1 AND i.indisunique AND i.indimmediate AND i.indisvalid
         AND i.indpred IS NULL AND i.indexprs IS NULL
         AND NOT EXISTS (
           SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
           JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
           WHERE k.n <= i.indnkeyatts AND NOT a.attnotnull)
       ORDER BY (
         SELECT bool_and(format_type(a.atttypid, NULL) = ANY($2::text[]))
         FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum WHERE k.n <= i.indnkeyatts
       ) DESC, i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1) i
     JOIN pg_index x ON x.indexrelid = i.indexrelid
     CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k(attnum, n)
     JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = k.attnum
     WHERE k.n <= x.indnkeyatts ORDER BY k.n`,
    [oid, [...KEY_TYPES]],
  );
}

const OWN_NAMES: ReadonlySet<string> = new Set(['chunk_no', 'hash', 'model', 'embedding']);

/** Why freshvec's own table, which has the key's columns beside its own, cannot hold the keys of this table. */
export async function ownTableRefusals(db: Executor, oid: number): Promise<string[]> {
  const names = (await readKey(db, oid)).map(({ name }) => name);
  const blind = await db.query<{ name: string }>(
    `SELECT a.attname AS name FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation
     WHERE a.attrelid = $1 AND a.attname = ANY($2::text[]) AND NOT c.collisdeterministic`,
    [oid, names],
  );
  return [
    ...names
      .filter((name) => OWN_NAMES.has(name))
      .map((name) => `its key column "${name}" has a name that a table of vectors needs: use \`--store column\`.`),
    ...blind.map(
      ({ name }) =>
        `its key column "${name}" has a collation that takes different keys for one: use \`--store column\`.`,
    ),
  ];
}

/** Why these columns cannot be a key; empty when they can. */
export function keyRefusals(key: readonly KeyColumn[]): string[] {
  if (key.length === 0) {
    return [
      'it has no primary key and no unique index over NOT NULL columns, so its rows cannot be named. ' +
        'Add one, for example ALTER TABLE … ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY.',
    ];
  }
  return key
    .filter(({ type }) => !KEY_TYPES.has(type))
    .map(
      ({ name, type }) =>
        `its key column "${name}" is of type ${type}; keys may be of ${[...KEY_TYPES].join(', ')}. ` +
        'Add a unique index over a NOT NULL column of such a type in place of this key.',
    );
}
