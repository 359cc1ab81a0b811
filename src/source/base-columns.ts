import { contentSql } from '../catalog/expressions.js';
import type { Content } from '../catalog/source.js';
import type { Database, Executor } from '../db/database.js';
import { sqlState } from '../db/errors.js';
import { ident, qualified } from '../db/identifiers.js';
import type { Table } from './table.js';

/** What the expressions of a source read, or why they cannot be used. */
export interface ExpressionFacts {
  /** Columns that content and filter read, as written: generated ones are not resolved. */
  readonly columns: readonly string[];
  /** They read the row as a whole: every column there is, and every one that is added. */
  readonly wholeRow: boolean;
  readonly refusals: readonly string[];
}

/** Of expressions that could not be looked at. */
export const UNREAD: ExpressionFacts = { columns: [], wholeRow: false, refusals: [] };

class Probed extends Error {}

/**
 * Lets PostgreSQL itself read content and filter: as the WHERE of a view that is never kept, whose dependencies then
 * name the columns. WHERE, because it takes neither aggregates nor window functions.
 */
export async function readExpressions(
  db: Database,
  table: Table,
  content: Content,
  filter: string | undefined,
): Promise<ExpressionFacts> {
  const parts = [
    ...('sql' in content ? [{ what: 'content', test: `${contentSql(content, table.table)} IS NOT NULL` }] : []),
    ...(filter === undefined ? [] : [{ what: 'filter', test: `(${filter}) IS TRUE` }]),
  ];
  const given = 'columns' in content ? content.columns : [];
  const facts = await Promise.all(parts.map((part) => probe(db, table, part)));
  return {
    columns: [...new Set([...given, ...facts.flatMap((fact) => fact.columns)])],
    wholeRow: facts.some((fact) => fact.wholeRow),
    refusals: facts.flatMap((fact) => fact.refusals),
  };
}

async function probe(db: Database, table: Table, part: { what: string; test: string }): Promise<ExpressionFacts> {
  let facts: ExpressionFacts = refusing();
  // Named as where pages are visited: there the schema is a leaf's.
  const from = `${qualified(table.schema, table.table)} AS ${ident(table.table)}`;
  try {
    await db.tx(async (tx) => {
      const database = await mayNotProbe(tx);
      if (database !== undefined) {
        facts = refusing(
          `the role ${table.role} may not create temporary views, by which PostgreSQL says what its ${part.what} reads: ` +
            `GRANT TEMPORARY ON DATABASE ${database} TO ${table.role}.`,
        );
        throw new Probed();
      }
      // With a parameter this goes by the extended protocol, which takes one statement only.
      await tx.query(`SELECT $1::int FROM ${from} WHERE ${part.test} LIMIT 0`, [1]);
      await tx.query(`CREATE TEMPORARY VIEW freshvec_probe AS SELECT 1 AS one FROM ${from} WHERE ${part.test}`);
      facts = await readView(tx, table, part.what);
      throw new Probed();
    });
  } catch (error) {
    if (error instanceof Probed) return facts;
    if (!(error instanceof Error) || !isFaultOfSql(error)) throw error;
    if (sqlState(error) === '42501')
      return refusing(`its ${part.what} needs more than the role ${table.role} may: ${error.message}.`);
    const advice =
      sqlState(error) === '42P01' ? ` In it, name the columns alone, or as ${ident(table.table)}.COLUMN.` : '';
    return refusing(`its ${part.what} is not valid SQL over its rows: ${error.message}.${advice}`);
  }
  return facts;
}

function refusing(...refusals: string[]): ExpressionFacts {
  return { columns: [], wholeRow: false, refusals };
}

/** The database in which this role may not create temporary views, quoted; undefined where it may. */
async function mayNotProbe(tx: Executor): Promise<string | undefined> {
  const [row] = await tx.query<{ name: string }>(
    `SELECT quote_ident(current_database()) AS name WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')`,
  );
  return row?.name;
}

/** Syntax errors and missing names, features that WHERE does not take, wrong types; not a lost connection. */
function isFaultOfSql(error: Error): boolean {
  return /^(42|0A|22)/.test(sqlState(error) ?? '');
}

/** Functions that PostgreSQL calls stable since they are so within a transaction. */
const TIMED = ['now()', 'transaction_timestamp()', 'statement_timestamp()', 'age(timestamp)', 'age(timestamptz)'];

async function readView(tx: Executor, table: Table, what: string): Promise<ExpressionFacts> {
  const columns = await tx.query<{ name: string; system: boolean }>(
    `SELECT a.attname AS name, a.attnum < 0 AS system
     FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
     JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE r.ev_class = 'pg_temp.freshvec_probe'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.refobjid = $1 AND d.refobjsubid <> 0
     ORDER BY a.attnum`,
    [table.oid],
  );
  const [rule] = await tx.query<{ whole_row: boolean; sub_query: boolean; timed: boolean; volatile: string[] }>(
    `SELECT r.ev_action::text ~ ':varattno 0 ' AS whole_row, r.ev_action::text ~ '\\{SUBLINK ' AS sub_query,
       r.ev_action::text ~ '\\{SQLVALUEFUNCTION ' OR EXISTS (
         SELECT FROM regexp_matches(r.ev_action::text, ':funcid (\\d+)', 'g') AS m
         WHERE m[1]::oid = ANY($1::regprocedure[])) AS timed,
       ARRAY(SELECT DISTINCT p.proname::text FROM regexp_matches(r.ev_action::text, ':(?:op)?funcid (\\d+)', 'g') AS m
             JOIN pg_proc p ON p.oid = m[1]::oid WHERE p.provolatile = 'v') AS volatile
     FROM pg_rewrite r WHERE r.ev_class = 'pg_temp.freshvec_probe'::regclass`,
    [TIMED],
  );
  const refusals = [
    ...(rule?.sub_query
      ? [`its ${what} has a subquery: a change of the rows that it reads would go unseen. Use columns of the row only.`]
      : []),
    // A filter that asks for the time is followed by the sweeper; a text that does is never the one that was embedded.
    ...(rule?.timed && what === 'content'
      ? [
          `its content depends on the time, or on who asks: its vectors would never be fresh. Use columns of the row only.`,
        ]
      : []),
    ...(rule?.volatile ?? []).map(
      (name) => `its ${what} calls ${name}(), whose result differs from call to call: it would never come to rest.`,
    ),
    ...columns
      .filter((c) => c.system)
      .map((c) => `its ${what} reads the system column ${c.name}, which changes unseen.`),
  ];
  return { columns: columns.filter((c) => !c.system).map((c) => c.name), wholeRow: rule?.whole_row ?? false, refusals };
}
