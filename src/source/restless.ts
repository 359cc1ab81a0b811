import {
  eligibleSql,
  fromSource,
  hashSql,
  keyArrayParams,
  keyArrays,
  keyColumnNames,
  keyJoinSql,
  keySql,
} from '../catalog/expressions.js';
import type { Source } from '../catalog/source.js';
import type { Database, Executor } from '../db/database.js';
import { classify, sqlState } from '../db/errors.js';
import { ident } from '../db/identifiers.js';
import { SourceRefused } from './errors.js';
import { readUpdateTriggers } from './hazards.js';

/** So many rows are tried. A trigger that makes texts tidy changes those from before its time only, a clock every one. */
const TRIED_ROWS = 5;
const LOOK_MS = 1000;
const LOCK_MS = 80;

class Tried extends Error {}

/**
 * Why vectors on the rows would never be fresh: an UPDATE that changes nothing changes the text, by the app's own triggers.
 * Each write of a worker would have its row embedded once more. Tried on a few rows in a transaction that is rolled back;
 * what a trigger does outside of it (a sequence, another server) stays done. Empty where nothing can be tried: without
 * rows, where the app holds them, or where a trigger refuses them.
 */
export async function restlessRefusals(db: Database, source: Source): Promise<string[]> {
  const triggers = await readUpdateTriggers(db, source.relation.oid);
  if (triggers.length === 0) return [];
  let restless = false;
  try {
    await db.tx(async (tx) => {
      restless = await changesUntouched(tx, source);
      throw new Tried();
    });
  } catch (error) {
    const ofStatement = sqlState(error) !== undefined && classify(error) !== 'connection';
    if (!(error instanceof Tried) && !ofStatement) throw error;
  }
  if (!restless) return [];
  return [
    `its own UPDATE triggers (${triggers.join(', ')}) change the content whenever a row is updated, and freshvec updates the rows: ` +
      'each would be embedded, and paid for, again and again. Leave the column that they set out of the content, or use `--store table`.',
  ];
}

/** Throws SourceRefused for these reasons. It runs the app's triggers, so not for a plan. */
export async function refuseRestless(db: Database, source: Source): Promise<void> {
  const reasons = await restlessRefusals(db, source);
  if (reasons.length > 0) throw new SourceRefused(`${source.relation.schema}.${source.relation.table}`, reasons);
}

async function changesUntouched(tx: Executor, source: Source): Promise<boolean> {
  const column = await untriggeredColumn(tx, source);
  if (column === undefined) return false;
  const { key, relation } = source;
  const { table } = relation;
  await tx.query(`SET LOCAL statement_timeout = ${LOOK_MS}`);
  const found = await tx.query<{ key: string }>(
    `SELECT ${keySql(key, table)} AS key FROM ${fromSource(source)} WHERE ${eligibleSql(source)} LIMIT ${TRIED_ROWS}`,
  );
  if (found.length === 0) return false;
  await tx.query(`SET LOCAL lock_timeout = ${LOCK_MS}`);
  const keys = keyArrays(
    key,
    found.map((row) => row.key),
  );
  const tried = `unnest(${keyArrayParams(key, 1)}) AS __fv_i(${keyColumnNames(key).join(', ')})`;
  const joined = `${fromSource(source)} JOIN ${tried} ON ${keyJoinSql(key, table, '__fv_i')}`;
  const before = await tx.query<{ key: string; hash: string }>(
    `WITH __fv_row AS MATERIALIZED (
       SELECT __fv_i.*, ${hashSql(source)}::text AS __fv_hash FROM ${joined} FOR NO KEY UPDATE OF ${ident(table)} SKIP LOCKED
     )
     UPDATE ${fromSource(source)} SET ${ident(column)} = ${ident(table)}.${ident(column)} FROM __fv_row
     WHERE ${keyJoinSql(key, table, '__fv_row')} RETURNING ${keySql(key, table)} AS key, __fv_row.__fv_hash AS hash`,
    keys,
  );
  // What triggers that fire after the row do is done by now.
  const after = await tx.query<{ key: string; hash: string }>(
    `SELECT ${keySql(key, table)} AS key, ${hashSql(source)}::text AS hash FROM ${joined}`,
    keys,
  );
  const hashes = new Map(after.map((row) => [row.key, row.hash]));
  return before.length > 0 && before.every((row) => hashes.get(row.key) !== row.hash);
}

/** A column that may be set and that no trigger asks for: a worker's update sets none of those either. */
async function untriggeredColumn(tx: Executor, { relation }: Source): Promise<string | undefined> {
  const [column] = await tx.query<{ name: string }>(
    `SELECT a.attname AS name FROM pg_attribute a
     WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity <> 'a'
       AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = a.attrelid AND a.attnum = ANY(t.tgattr::int2[]))
     ORDER BY a.attnum LIMIT 1`,
    [relation.oid],
  );
  return column?.name;
}
