import type { Space } from '../catalog/space.js';
import type { Executor, VectorExtension } from '../db/database.js';
import { ident } from '../db/identifiers.js';
import { encodeVectorArray } from '../db/vectors.js';

/** How vectors travel to this database: one binary `vector[]` parameter. */
export interface VectorCodec {
  /** The type `vector`, qualified with pgvector's schema. */
  readonly vectorType: string;
  /** One parameter for `$n::<vectorType>[]`. */
  encode(vectors: readonly Float32Array[]): Buffer;
  /** The type of the stored column, qualified, with dimensions. */
  storedType(space: Pick<Space, 'type' | 'dimensions'>): string;
}

export async function vectorCodec(db: Executor, extension: VectorExtension): Promise<VectorCodec> {
  const schema = ident(extension.schema);
  const vectorType = `${schema}.vector`;
  const [row] = await db.query<{ oid: number }>('SELECT $1::text::regtype::oid::int8 AS oid', [vectorType]);
  const oid = row?.oid ?? 0;
  return {
    vectorType,
    encode: (vectors) => encodeVectorArray(vectors, oid),
    storedType: ({ type, dimensions }) => `${schema}.${type}(${dimensions})`,
  };
}
