import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import { columnStore, createColumnsSql, dropColumnsSql } from './column.js';
import type { Store } from './port.js';
import { createTableSql, dropTableSql, tableStore } from './table.js';
import type { VectorCodec } from './vector-codec.js';

/** The store that holds this space. */
export function openStore(source: Source, space: Space, codec: VectorCodec): Store {
  return space.store === 'column' ? columnStore(source, space, codec) : tableStore(source, space, codec);
}

/** DDL that makes room for the space's vectors; every statement may be run twice. */
export function createSpaceSql(source: Source, space: Space, vectorSchema: string): string[] {
  return space.store === 'column'
    ? createColumnsSql(source, space, vectorSchema)
    : createTableSql(source, space, vectorSchema);
}

export { dropFlagSql } from './column.js';

/**
 * DDL that takes the space's vectors away for good. A column that was there before freshvec came is dropped only where
 * `adopted` says so.
 */
export function dropSpaceSql(source: Source, space: Space, adopted: 'keep' | 'drop' = 'keep'): string[] {
  return space.store === 'column' ? dropColumnsSql(source, space, adopted) : dropTableSql(space);
}
