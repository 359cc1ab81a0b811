import type { Database } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { type VectorCodec, vectorCodec } from '../store/vector-codec.js';

export async function openCodec(db: Database): Promise<VectorCodec> {
  const extension = await db.vectorExtension();
  if (extension) return vectorCodec(db, extension);
  throw new FreshvecError('pgvector_missing', 'pgvector is not in this database. Run `freshvec schema apply`.');
}
