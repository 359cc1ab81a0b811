import { getSource, type Source } from '../catalog/source.js';
import { liveSpace, type Space } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { FreshvecError, sqlState } from '../db/errors.js';
import { qualified } from '../db/identifiers.js';
import { columnsOf } from '../store/column.js';
import { adoptedSql, vectorTypeOf } from './adoption.js';
import { readExpressions, UNREAD } from './base-columns.js';
import { currentSource } from './current.js';
import type { PlanModel, SpaceTraits } from './definition.js';
import { type Estimate, estimateReadable } from './estimate.js';
import { ownColumns } from './existing.js';
import { type Hazards, readHazards } from './hazards.js';
import { newSpaceRefusals } from './plan.js';
import { relationRefusals, standingRefusals } from './refuse.js';
import { readTable, type Table } from './table.js';

const READ_ONLY = '25006';

/** What a second space of a source shall be; what is left open is as in the live one. `column`: the next free name. */
export interface SpaceDefinition extends SpaceTraits {
  /** Takes over this column, which holds vectors of the model already; in place of `column`. */
  readonly adopt?: string | undefined;
}

export interface PlannedSpace {
  /** With the flag that the new space wants, should it be the first on the rows. */
  readonly source: Source;
  readonly from: Space;
  /** Without an id: it is reserved when it is made. */
  readonly space: Space;
  /** Why it cannot be made, each with what to do. */
  readonly refusals: readonly string[];
  readonly hazards: Hazards;
  readonly amount: Estimate;
}

/** Finds out what a second space beside the live one will be. Changes nothing. */
export async function planSpace(
  db: Database,
  sourceName: string,
  definition: SpaceDefinition,
  model: PlanModel,
): Promise<PlannedSpace> {
  const recorded = await getSource(db, sourceName);
  const current = await currentSource(db, recorded);
  const live = await liveSpace(db, recorded.id);
  if (!current || !live) {
    throw new FreshvecError(
      'table_gone',
      current
        ? `"${sourceName}" has no live space.`
        : `The table of source "${sourceName}" was dropped. Remove the source.`,
    );
  }
  const from = live.space;
  const table = await readTable(db, qualified(current.relation.schema, current.relation.table));
  const facts = await readExpressions(db, table, current.content, current.filter).catch((error) => {
    // The plan says by itself that nothing can be written.
    if (sqlState(error) === READ_ONLY) return UNREAD;
    throw error;
  });
  const own = new Set((await ownColumns(db, table.oid)).map(({ column }) => column));
  const taken = new Set([...table.columns.map(({ name }) => name), ...own]);
  const space = spaceBeside(from, definition, model, taken, table);
  const hazards = await readHazards(db, table.oid, columnsOf(space));
  const flag = current.flagColumn ?? (space.store === 'column' ? `${space.column}_stale` : undefined);
  const source = { ...current, flagColumn: flag };
  const refusals = [
    ...relationRefusals(table),
    ...sameAs(from, space),
    ...(definition.adopt !== undefined && definition.column !== undefined && definition.adopt !== definition.column
      ? [`\`--adopt ${definition.adopt}\` names the column of the new vectors: leave \`--column\` away.`]
      : []),
    ...(await newSpaceRefusals(db, table, { space, flag: current.flagColumn ? undefined : flag }, facts, hazards)),
    ...standingRefusals(space, table, own),
  ];
  const adopted = vectorTypeOf(table, space.column) && space.adoption ? adoptedSql(table, space) : undefined;
  return {
    source,
    from,
    space,
    refusals,
    hazards,
    amount: await estimateReadable(db, current, model, adopted),
  };
}

/** Fixes the id of a space before anything is done. */
export async function reserveSpaceId(db: Executor): Promise<number> {
  const [row] = await db.query<{ id: number }>(`SELECT nextval(pg_get_serial_sequence('freshvec.space', 'id')) AS id`);
  if (!row) throw new TypeError('nextval gave no row');
  return row.id;
}

function spaceBeside(
  from: Space,
  wanted: SpaceDefinition,
  model: PlanModel,
  taken: ReadonlySet<string>,
  table: Table,
): Space {
  const { adopt } = wanted;
  return {
    id: 0,
    sourceId: from.sourceId,
    spec: model.spec,
    fingerprint: model.fingerprint,
    dimensions: model.dimensions,
    state: 'building',
    store: wanted.store ?? (adopt === undefined ? from.store : 'column'),
    column: adopt ?? wanted.column ?? nextColumn(from.column, taken),
    type: wanted.type ?? (adopt === undefined ? undefined : vectorTypeOf(table, adopt)) ?? from.type,
    metric: wanted.metric ?? from.metric,
    index: {
      kind: wanted.index ?? from.index.kind,
      m: wanted.m ?? from.index.m,
      efConstruction: wanted.efConstruction ?? from.index.efConstruction,
    },
    adoption: adopt === undefined ? undefined : 'open',
  };
}

/** `embedding` → `embedding_2` → `embedding_3`, the first that is free with its companions. */
function nextColumn(column: string, taken: ReadonlySet<string>): string {
  const [, root = column] = /^(.+)_\d+$/.exec(column) ?? [];
  const free = (name: string) => [name, `${name}_model`, `${name}_hash`].every((each) => !taken.has(each));
  let n = 2;
  while (!free(`${root}_${n}`)) n++;
  return `${root}_${n}`;
}

function sameAs(from: Space, space: Space): string[] {
  const same =
    from.fingerprint === space.fingerprint &&
    from.store === space.store &&
    from.type === space.type &&
    from.metric === space.metric;
  if (!same) return [];
  return [
    `it has this model, store, type and metric already (${from.fingerprint}). For another index alone: \`freshvec reindex\`.`,
  ];
}
