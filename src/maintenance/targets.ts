import { getSource, getSourceById, type Source } from '../catalog/source.js';
import { listMaintainedSpaces, type Space } from '../catalog/space.js';
import { asSingleton } from '../claim/singleton.js';
import type { Database, Executor } from '../db/database.js';
import { sqlState } from '../db/errors.js';
import { qualified } from '../db/identifiers.js';
import { findBuild } from '../db/index-builds.js';
import { type VectorRelation, vectorRelations } from '../store/own-index.js';
import { BusyError } from './run-log.js';

/** A space and where its vectors are. */
export interface Target {
  readonly source: Source;
  readonly space: Space;
  readonly relations: readonly VectorRelation[];
}

/**
 * All maintained spaces, or those of one source. A space whose table somebody dropped is left out: `status` names it.
 * Throws FreshvecError `source_unknown`.
 */
export async function listTargets(db: Executor, sourceName?: string): Promise<Target[]> {
  const only = sourceName === undefined ? undefined : await getSource(db, sourceName);
  const targets: Target[] = [];
  for (const space of await listMaintainedSpaces(db, only?.id)) {
    const source = only ?? (await getSourceById(db, space.sourceId));
    if (!source) continue;
    const relations = await vectorRelations(db, source, space).catch((error: unknown) => {
      if (isGone(error)) return undefined;
      throw error;
    });
    if (relations) targets.push({ source, space, relations });
  }
  return targets;
}

/**
 * Runs `fn` as the only one that builds on the source's table: index builds, rebuilds and vacuums take the same lease.
 * Throws BusyError while another process has it, or where somebody builds an index on the table by hand.
 */
export async function aloneOnTable(
  db: Database,
  { source, relations }: Target,
  fn: (lost: AbortSignal) => Promise<void>,
): Promise<void> {
  const ran = await asSingleton(db, `index:${source.relation.oid}`, async (lost) => {
    const build = await findBuild(
      db,
      relations.map(({ oid }) => oid),
    );
    if (build !== undefined) throw new BusyError(`An index is being built on the table by pid ${build}.`);
    await fn(lost);
  });
  if (!ran) throw new BusyError('Another process of freshvec builds or tends an index on this table.');
}

/**
 * Throws BusyError where a vacuum, a build or DDL holds the table: to wait would end an autovacuum, and what the app
 * alters meanwhile would wait behind us.
 */
export async function assertFree(db: Database, { schema, name }: VectorRelation): Promise<void> {
  const table = qualified(schema, name);
  try {
    await db.tx((tx) => tx.query(`LOCK TABLE ONLY ${table} IN SHARE UPDATE EXCLUSIVE MODE NOWAIT`));
  } catch (error) {
    if (sqlState(error) !== '55P03') throw error;
    throw new BusyError(`${schema}.${name} is being vacuumed, altered or indexed just now.`);
  }
}

/** Aborts with either. */
export function either(one: AbortSignal, other: AbortSignal | undefined): AbortSignal {
  return other ? AbortSignal.any([one, other]) : one;
}

function isGone(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && error.code === 'relation_gone';
}
