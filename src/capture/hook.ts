import { PACK_KEYS } from '../catalog/pack.js';
import { RINGING } from '../catalog/ringing.js';
import type { KeyColumn } from '../catalog/source.js';
import { ident, literal } from '../db/identifiers.js';
import { dollarQuote } from './dollar-quote.js';
import type { CaptureTarget } from './target.js';

/** One trigger function of a source and the triggers that call it. */
export interface Hook {
  /** Function with its schema, without arguments. */
  readonly name: string;
  readonly functionSql: string;
  /** Row triggers, on the source: PostgreSQL itself clones them to the partitions. */
  readonly rowTriggerSql: readonly string[];
  /** Statement triggers, on one relation: they fire only for the table that a statement names, so each has them. */
  statementTriggerSql(relation: string): string[];
}

/** Statements that touch more rows than this go into the bulk lane, so that an import does not delay a person's edit. */
export const BULK_ROWS = 1000;

/** The tenant's text of one row, noted beside its key for people to read: claims go by age alone. */
export function tenantSql(target: CaptureTarget, row: string): string {
  const { tenantColumn } = target.source;
  return tenantColumn === undefined ? 'NULL::pg_catalog.text' : `${row}.${ident(tenantColumn)}::pg_catalog.text`;
}

/**
 * Wakes a worker, if one asked for it. A NOTIFY in every transaction would take a database-wide lock at each commit, and
 * PREPARE TRANSACTION fails after one. That workers sleep is told by a sequence, since reading one costs no query. A
 * commit that notifies waits for the disk under that lock: who comes while another transaction rings leaves it at that,
 * and is found by the looks that follow the ring (by the poll, should the ringer roll back). Every name is qualified, for functions without a search_path of their
 * own.
 */
export const DOORBELL = `IF FOUND AND pg_catalog.pg_sequence_last_value('freshvec.ring_until'::pg_catalog.regclass)
        OPERATOR(pg_catalog.>) pg_catalog.date_part('epoch', pg_catalog.now())
      AND pg_catalog.current_setting('max_prepared_transactions') OPERATOR(pg_catalog.=) '0'
      AND pg_catalog.pg_try_advisory_xact_lock(${RINGING}) THEN
      PERFORM pg_catalog.pg_notify('freshvec', '');
    END IF;`;

const DATETIME = /^(date|time)/;

/** Keys of dates are rendered under fixed settings: under another DateStyle a key came back as another day. */
export function renderSettings(key: readonly KeyColumn[]): string {
  return key.some(({ type }) => DATETIME.test(type)) ? `\n  SET timezone = 'UTC' SET datestyle = 'ISO, MDY'` : '';
}

/**
 * plpgsql: `reads` touches every column that what follows names; where one of them was renamed `otherwise` is done
 * instead, since an app's statement must not fail for that. To be caught, an error needs a subtransaction: with nothing
 * written in it, it takes no transaction id of its own.
 */
export function whereNamesStand(reads: string, otherwise: string): string {
  return `BEGIN
    ${reads}
  EXCEPTION WHEN undefined_column THEN
    ${otherwise}
  END;`;
}

/**
 * Defines a function that writes into freshvec's tables with its owner's rights: the app's role needs none there.
 * `body` may use `__fv_space`, the id of one of the spaces that the trigger names: it runs once for each. `reads` is a
 * select list over all columns that `body` names: where one of them was renamed nothing is written, and the sweeper is
 * left to find the rows.
 */
export function definerFunction(
  target: CaptureTarget,
  verb: string,
  body: string,
  reads?: string,
): Pick<Hook, 'name' | 'functionSql'> {
  const name = functionName(target, verb);
  const loop = `DECLARE
  __fv_space int;
BEGIN
  ${reads === undefined ? '' : `${whereNamesStand(`PERFORM ${reads};`, 'RETURN NULL;')}\n  `}FOREACH __fv_space IN ARRAY TG_ARGV LOOP
    ${body}
  END LOOP;
  RETURN NULL;
END`;
  return {
    name,
    functionSql: `CREATE OR REPLACE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp${renderSettings(target.source.key)}
AS ${dollarQuote(loop)}`,
  };
}

export interface StatementHook {
  readonly verb: 'insert' | 'update' | 'delete';
  readonly event: 'INSERT' | 'UPDATE' | 'DELETE';
  /** The transition tables that the trigger asks for. */
  readonly referencing: string;
  /** SQL of a change's columns. */
  readonly key: string;
  readonly tenant: string;
  /** Transition tables, and which of their rows are changes: all, unless told. */
  readonly from: string;
  readonly where?: string;
  /** What follows FROM to count the rows that make a statement a large one. */
  readonly counted: string;
  readonly when?: string;
}

/**
 * Writes the changes of a whole statement at once. Up to BULK_ROWS they are rows of the interactive lane; more are
 * written as packs, which costs a third. Only a statement that wrote no row is asked whether it was a large one, so
 * that a small one pays for nothing.
 */
export function statementHook(target: CaptureTarget, hook: StatementHook): Hook {
  const { verb, event, referencing, when, key, tenant, from, where, counted } = hook;
  const bulk = `EXISTS (SELECT FROM ${counted} OFFSET ${BULK_ROWS})`;
  const { name, functionSql } = definerFunction(
    target,
    verb,
    `INSERT INTO freshvec.change (space_id, key, tenant)
    SELECT __fv_space, ${key}, ${tenant}
    FROM ${from} WHERE NOT ${bulk}${where === undefined ? '' : ` AND (${where})`};
    IF NOT FOUND THEN
      IF ${bulk} THEN
        ${packsSql(target, hook)}
      END IF;
    END IF;
    ${DOORBELL}`,
    `${[key, tenant, where].filter((part) => part !== undefined).join(', ')} FROM ${from} LIMIT 0`,
  );
  return {
    name,
    functionSql,
    rowTriggerSql: [],
    statementTriggerSql: (relation) => [
      `CREATE OR REPLACE TRIGGER freshvec_${verb}_${target.source.id} AFTER ${event} ON ${relation}
  REFERENCING ${referencing} FOR EACH STATEMENT${when === undefined ? '' : `\n  WHEN (${when})`}
  EXECUTE FUNCTION ${callWithSpaces(target, name)}`,
    ],
  };
}

/** Rows in the order in which the statement touched them, PACK_KEYS a pack, so that a claim's rows are neighbours. */
function packsSql({ source }: CaptureTarget, { key, tenant, from, where }: StatementHook): string {
  const tenants = source.tenantColumn === undefined ? 'NULL::pg_catalog.text[]' : 'array_agg(__fv_tenant)';
  return `INSERT INTO freshvec.change_pack (space_id, keys, tenants)
        SELECT __fv_space, array_agg(__fv_key), ${tenants}
        FROM (SELECT ${key} AS __fv_key, ${tenant} AS __fv_tenant, (row_number() OVER () - 1) / ${PACK_KEYS} AS __fv_pack
              FROM ${from}${where === undefined ? '' : ` WHERE ${where}`}) __fv_rows
        GROUP BY __fv_pack;`;
}

export function functionName(target: Pick<CaptureTarget, 'source'>, verb: string): string {
  return `freshvec.${verb}_${target.source.id}`;
}

/** `freshvec.insert_1('7', '9')`: the spaces are arguments, so that a session with an old snapshot serves new ones too. */
export function callWithSpaces(target: CaptureTarget, name: string): string {
  return `${name}(${target.spaceIds.map((id) => literal(String(id))).join(', ')})`;
}
