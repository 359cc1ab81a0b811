import type { Database, Executor } from '../db/database.js';
import { qualified } from '../db/identifiers.js';
import type { VectorRelation } from '../store/own-index.js';
import { logged } from './run-log.js';
import { listTargets } from './targets.js';

/** A setting of a table that would keep its vectors in better shape. Nothing sets it but a person who asks for it. */
export interface AutovacuumProposal {
  readonly source: string;
  /** `schema.table`, not quoted. */
  readonly relation: string;
  readonly sql: string;
  /** Brings the table back to what it was. */
  readonly undo: string;
  readonly why: string;
}

/** A smaller table is vacuumed often enough as it is. */
const MIN_ROWS = 10_000;
/** Dead rows that a table may gather, and the share of its rows that they may be. */
const DEAD_ROWS = 50_000;
const SHARE = { least: 0.002, most: 0.05 } as const;
const LOCK_MS = 5_000;

type Settings = { rows: number; scale: string | null; fallback: number; enabled: string | null };

/** What each table that holds vectors should have: autovacuum on, and begun long before its default of 20 % dead rows. */
export async function proposeAutovacuum(db: Executor, source?: string): Promise<AutovacuumProposal[]> {
  const proposals: AutovacuumProposal[] = [];
  const seen = new Set<number>(); // Two sources may share a table.
  for (const target of await listTargets(db, source)) {
    for (const relation of target.relations) {
      if (relation.partitioned || seen.has(relation.oid)) continue;
      seen.add(relation.oid);
      const settings = await settingsOf(db, relation);
      if (settings) proposals.push(...proposalsFor(target.source.name, relation, settings));
    }
  }
  return proposals;
}

/** Sets what is proposed, one table after the other, and logs how to take it back. Resolves to what was set. */
export async function setAutovacuum(
  db: Database,
  { source, byPerson }: { source?: string | undefined; byPerson: boolean },
): Promise<AutovacuumProposal[]> {
  const set: AutovacuumProposal[] = [];
  for (const proposal of await proposeAutovacuum(db, source)) {
    const { relation, sql, undo } = proposal;
    const about = { service: 'settings', byPerson, source: proposal.source, relation, did: sql };
    await logged(db, about, async (notes) => {
      await db.tx(async (tx) => {
        await tx.query(`SET LOCAL lock_timeout = ${LOCK_MS}`);
        await tx.query(sql);
      });
      notes.did = `${sql}; to undo: ${undo}`;
    });
    set.push(proposal);
  }
  return set;
}

async function settingsOf(db: Executor, { oid }: VectorRelation): Promise<Settings | undefined> {
  const [row] = await db.query<Settings>(
    `SELECT CASE WHEN c.reltuples >= 0 THEN c.reltuples ELSE s.n_live_tup END::float8 AS rows, current_setting('autovacuum_vacuum_scale_factor')::float8 AS fallback,
       (SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'autovacuum_vacuum_scale_factor') AS scale,
       (SELECT option_value FROM pg_options_to_table(c.reloptions) WHERE option_name = 'autovacuum_enabled') AS enabled
     FROM pg_class c JOIN pg_stat_all_tables s ON s.relid = c.oid WHERE c.oid = $1::int8::oid`,
    [oid],
  );
  return row;
}

function proposalsFor(source: string, relation: VectorRelation, settings: Settings): AutovacuumProposal[] {
  const { rows, scale, fallback, enabled } = settings;
  const table = qualified(relation.schema, relation.name);
  const common = { source, relation: `${relation.schema}.${relation.name}` };
  const proposals: AutovacuumProposal[] = [];
  if (enabled !== null && !/^(on|true|yes|1)$/i.test(enabled)) {
    proposals.push({
      ...common,
      sql: `ALTER TABLE ${table} RESET (autovacuum_enabled)`,
      undo: `ALTER TABLE ${table} SET (autovacuum_enabled = ${enabled})`,
      why: 'autovacuum is off for this table: dead vectors stay in the index, and searches wade through them',
    });
  }
  const share = Number(Math.min(SHARE.most, Math.max(SHARE.least, DEAD_ROWS / rows)).toPrecision(2));
  const present = scale === null ? fallback : Number(scale);
  if (rows >= MIN_ROWS && present > share) {
    proposals.push({
      ...common,
      sql: `ALTER TABLE ${table} SET (autovacuum_vacuum_scale_factor = ${share})`,
      undo:
        scale === null
          ? `ALTER TABLE ${table} RESET (autovacuum_vacuum_scale_factor)`
          : `ALTER TABLE ${table} SET (autovacuum_vacuum_scale_factor = ${scale})`,
      why: `autovacuum waits for ${Math.round(present * rows)} dead rows, ${100 * present} % of the table; each is in the vector index too`,
    });
  }
  return proposals;
}
