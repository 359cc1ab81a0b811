import type { Executor } from '../db/database.js';
import { literal } from '../db/identifiers.js';

export type SpaceState = 'building' | 'ready' | 'live' | 'retained' | 'dropped';
export type StoreKind = 'column' | 'table';
export type VectorType = 'vector' | 'halfvec';
export type Metric = 'cosine' | 'l2' | 'ip';

/** A column that was there before, with vectors: `open` while they are taken over as they are, then `done`. */
export type Adoption = 'open' | 'done';

/** The vectors of one source under one model fingerprint. */
export interface Space {
  readonly id: number;
  readonly sourceId: number;
  readonly spec: string;
  readonly fingerprint: string;
  readonly dimensions: number;
  readonly state: SpaceState;
  readonly store: StoreKind;
  /** Column mode: the vector column; its companions are `<column>_model` and `<column>_hash`. */
  readonly column: string;
  readonly type: VectorType;
  readonly metric: Metric;
  readonly index: { readonly kind: 'hnsw' | 'none'; readonly m: number; readonly efConstruction: number };
  /** Undefined where freshvec made the column, or the table. */
  readonly adoption?: Adoption | undefined;
}

/** States in which edits are enqueued for the space and its vectors are kept fresh. */
export const MAINTAINED_STATES: readonly SpaceState[] = ['building', 'ready', 'live', 'retained'];

/** As the table has it. */
export type SpaceRow = {
  id: number;
  source_id: number;
  spec: string;
  fingerprint: string;
  dimensions: number;
  state: SpaceState;
  store: StoreKind;
  column_name: string;
  vector_type: VectorType;
  metric: Metric;
  index_kind: 'hnsw' | 'none';
  m: number;
  ef_construction: number;
  adoption: Adoption | null;
};

export function toSpace(row: SpaceRow): Space {
  return {
    id: row.id,
    sourceId: row.source_id,
    spec: row.spec,
    fingerprint: row.fingerprint,
    dimensions: row.dimensions,
    state: row.state,
    store: row.store,
    column: row.column_name,
    type: row.vector_type,
    metric: row.metric,
    index: { kind: row.index_kind, m: row.m, efConstruction: row.ef_construction },
    adoption: row.adoption ?? undefined,
  };
}

/**
 * SQL that holds while the space's columns still have these names: after `cutover --rename` another space's vectors
 * stand under them. A worker's word on the space may be from before that.
 */
export function standsSql(space: Space): string {
  return `EXISTS (SELECT FROM freshvec.space __fv_c WHERE __fv_c.id = ${space.id} AND __fv_c.column_name = ${literal(space.column)})`;
}

/** Maintained spaces, of one source or of all, oldest first. */
export async function listMaintainedSpaces(db: Executor, sourceId?: number): Promise<Space[]> {
  const rows = await db.query<SpaceRow>(
    `SELECT * FROM freshvec.space
     WHERE state = ANY($1::text[]) AND ($2::int IS NULL OR source_id = $2)
     ORDER BY id`,
    [MAINTAINED_STATES, sourceId ?? null],
  );
  return rows.map(toSpace);
}

export async function getSpace(db: Executor, id: number): Promise<Space | undefined> {
  const [row] = await db.query<SpaceRow>('SELECT * FROM freshvec.space WHERE id = $1', [id]);
  return row && toSpace(row);
}

/** The live space and the epoch of the pointer that names it. */
export async function liveSpace(db: Executor, sourceId: number): Promise<{ epoch: number; space: Space } | undefined> {
  const [row] = await db.query<SpaceRow & { epoch: number }>(
    `SELECT p.epoch, s.* FROM freshvec.pointer p JOIN freshvec.space s ON s.id = p.space_id WHERE p.source_id = $1`,
    [sourceId],
  );
  return row && { epoch: row.epoch, space: toSpace(row) };
}

/**
 * The live space of the same source under the same fingerprint, where this one is not it: texts are paid for there, and
 * copied from there.
 */
export async function payingTwin(db: Executor, space: Space): Promise<Space | undefined> {
  const live = await liveSpace(db, space.sourceId);
  return live && live.space.id !== space.id && live.space.fingerprint === space.fingerprint ? live.space : undefined;
}

/** Says what index the space is to have; `maintenance` brings it about. */
export async function setSpaceIndex(db: Executor, id: number, index: Space['index']): Promise<void> {
  await db.query('UPDATE freshvec.space SET index_kind = $2, m = $3, ef_construction = $4 WHERE id = $1', [
    id,
    index.kind,
    index.m,
    index.efConstruction,
  ]);
}
