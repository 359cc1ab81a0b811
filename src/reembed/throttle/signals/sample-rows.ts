import {
  fromSource,
  keyArrayParams,
  keyArrays,
  keyColumnNames,
  keyJoinSql,
  keySql,
} from '../../../catalog/expressions.js';
import type { Source } from '../../../catalog/source.js';
import type { Database } from '../../../db/database.js';
import { ident, qualified } from '../../../db/identifiers.js';
import { readOnly } from '../../../db/snapshot.js';
import { READ_MS } from '../reading.js';
import { RELATIONS } from './relations.js';

type Table = Pick<Source, 'relation' | 'key'>;

/** Keys that are kept; the one that was just read is not asked for, since its page is in memory now. */
const KEPT = 60;
/** Pages that are looked at for a row. */
const PAGES = 4;

/** Keys of rows from all over the source, one more with each call. */
export class KeySample {
  readonly #source: Table;
  readonly #keys: string[] = [];

  constructor(source: Table) {
    this.#source = source;
  }

  /** One of the keys; undefined where no row was found yet. */
  async next(db: Database): Promise<string | undefined> {
    const found = await randomKey(db, this.#source);
    if (found !== undefined) this.#keys.push(found);
    if (this.#keys.length > KEPT) this.#keys.shift();
    const older = Math.max(1, this.#keys.length - 1);
    return this.#keys[Math.floor(Math.random() * older)];
  }
}

/** The key of a row on a random page of a random partition, the larger ones more often. */
async function randomKey(db: Database, { relation, key }: Table): Promise<string | undefined> {
  return readOnly(db, READ_MS).tx(async (tx) => {
    const [page] = await tx.query<{ schema: string; name: string; page: number }>(
      `${RELATIONS}, leaf AS (
         SELECT n.nspname AS schema, c.relname AS name, greatest(c.relpages, 1) AS pages
         FROM pg_class c JOIN rel ON rel.oid = c.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r')
       SELECT schema, name, floor(random() * pages)::int AS page FROM leaf ORDER BY -ln(1 - random()) / pages LIMIT 1`,
      [[relation.oid]],
    );
    if (!page) return undefined;
    const [row] = await tx.query<{ key: string }>(
      `SELECT ${keySql(key, relation.table)} AS key FROM ${qualified(page.schema, page.name)} AS ${ident(relation.table)}
       WHERE ctid >= '(${page.page},0)'::tid AND ctid < '(${page.page + PAGES},0)'::tid LIMIT 1`,
    );
    return row?.key;
  });
}

/** Looks a row up by its key. The ctid makes it go to the row, not to the index alone. */
export function lookUp(source: Table, key: string): { sql: string; params: readonly unknown[] } {
  const table = ident(source.relation.table);
  return {
    sql: `SELECT ${table}.ctid FROM unnest(${keyArrayParams(source.key, 1)}) AS __fv_i(${keyColumnNames(source.key).join(', ')})
      JOIN ${fromSource(source)} ON ${keyJoinSql(source.key, source.relation.table, '__fv_i')}`,
    params: keyArrays(source.key, [key]),
  };
}
