import type { SourceDefinition } from '../../src/source/index.js';
import type { AppOptions } from './app.js';
import { tableSql, textsSql } from './source.js';
import { seededRandom } from './stats.js';

/** Partitions, one for each tenant. */
const TENANTS = 50;
/** One write in so many names the leaf. */
const BY_LEAF = 4;
/** The last rows, which the app leaves alone: edits of these are followed one by one. */
const FOLLOWED = 100;
const K = 10;
/**
 * Percent: as `reembed plan` advises where a vector index is on the rows. On full pages each edit of the app's goes into that
 * index itself, and 100 of them a second are more than two cores do, with no migration at all.
 */
export const FILLFACTOR = 50;

/** A table that an app writes and searches. */
export interface Table extends Pick<AppOptions, 'write' | 'search'> {
  readonly name: string;
  readonly rows: number;
  readonly createSql: string;
  readonly source: Pick<SourceDefinition, 'tenant'>;
  /** SQL: the row that is followed in the n-th place. */
  readonly followed: (n: number) => string;
}

export function plain(rows: number): Table {
  const random = seededRandom(5);
  return {
    name: 'note',
    rows,
    createSql: `${tableSql('note', rows)}; ALTER TABLE note SET (fillfactor = ${FILLFACTOR})`,
    source: {},
    write(n) {
      const id = randomId(random, rows);
      return { name: 'edit', text: 'UPDATE note SET body = $2 WHERE id = $1', values: [id, bodyOf(id, n)] };
    },
    search: (n) => ({ text: `question ${n}`, k: K }),
    followed: (n) => `id = ${rows - (n % FOLLOWED)}`,
  };
}

/** LIST partitions by tenant; the app names the tenant, and now and then the leaf. */
export function partitioned(rows: number): Table {
  const random = seededRandom(6);
  const tenantOf = (id: number) => `t${id % TENANTS}`;
  const leaves = Array.from(
    { length: TENANTS },
    (_, i) => `CREATE TABLE note_t${i} PARTITION OF note FOR VALUES IN ('t${i}') WITH (fillfactor = ${FILLFACTOR});`,
  );
  return {
    name: 'note',
    rows,
    createSql: `CREATE TABLE note (tenant text NOT NULL, id bigint NOT NULL, body text NOT NULL, n int NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant, id)) PARTITION BY LIST (tenant);
      ${leaves.join('\n')}
      INSERT INTO note (tenant, id, body) SELECT 't' || i % ${TENANTS}, i, body FROM (${textsSql(1, rows)}) t(i, body);`,
    source: { tenant: 'tenant' },
    write(n) {
      const id = randomId(random, rows);
      const tenant = tenantOf(id);
      const table = n % BY_LEAF === 0 ? `note_${tenant}` : 'note';
      return {
        name: `edit ${table}`,
        text: `UPDATE ${table} SET body = $3 WHERE tenant = $1 AND id = $2`,
        values: [tenant, id, bodyOf(id, n)],
      };
    },
    search: (n) => ({ text: `question ${n}`, k: K, tenant: tenantOf(n) }),
    followed(n) {
      const id = rows - (n % FOLLOWED);
      return `tenant = '${tenantOf(id)}' AND id = ${id}`;
    },
  };
}

function randomId(random: () => number, rows: number): number {
  return 1 + Math.floor(random() * (rows - FOLLOWED));
}

function bodyOf(id: number, n: number): string {
  return `Edit ${n} of note ${id}: the quick brown fox jumps over the lazy dog once more`;
}
