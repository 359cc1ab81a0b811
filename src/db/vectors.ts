/**
 * PostgreSQL's binary array format (src/backend/utils/adt/arrayfuncs.c, array_recv) around pgvector's binary vector
 * format (vector_recv): int32 ndim, int32 hasnull, uint32 element oid, then per dimension int32 length and int32 lower
 * bound; each element is an int32 byte length and then int16 dimensions, int16 zero, big-endian float4s.
 */

/**
 * One `vector[]` parameter as a binary buffer.
 * @param vectors Float32Array of length `dimensions` each.
 * @param elementOid oid of the type `vector` in this database.
 */
export function encodeVectorArray(vectors: readonly Float32Array[], elementOid: number): Buffer {
  const dimensions = vectors[0]?.length ?? 0;
  const header = vectors.length === 0 ? 12 : 20;
  const out = Buffer.allocUnsafe(header + vectors.length * (8 + 4 * dimensions));
  out.writeInt32BE(vectors.length === 0 ? 0 : 1, 0);
  out.writeInt32BE(0, 4);
  out.writeUInt32BE(elementOid, 8);
  if (vectors.length === 0) return out;
  out.writeInt32BE(vectors.length, 12);
  out.writeInt32BE(1, 16);
  let at = header;
  for (const vector of vectors) {
    if (vector.length !== dimensions) throw new RangeError(`vector of ${vector.length} dimensions among ${dimensions}`);
    out.writeInt32BE(4 + 4 * dimensions, at);
    out.writeInt16BE(dimensions, at + 4);
    out.writeInt16BE(0, at + 6);
    at += 8;
    copySwapped(vector, out, at);
    at += 4 * dimensions;
  }
  return out;
}

/** Copies float32s in big-endian order: a byte copy and one in-place swap, which beats a write per number. */
function copySwapped(vector: Float32Array, out: Buffer, at: number): void {
  const bytes = Buffer.from(vector.buffer, vector.byteOffset, vector.byteLength);
  const target = out.subarray(at, at + bytes.length);
  bytes.copy(target);
  target.swap32();
}
