import type { Client, Connection, Submittable } from 'pg';

/** Binary COPY FROM STDIN through node-postgres: its extension point `Submittable`, and nothing else. */
class CopyIn implements Submittable {
  readonly done: Promise<void>;
  private resolve: () => void = () => undefined;
  private reject: (error: unknown) => void = () => undefined;

  constructor(
    private readonly text: string,
    private readonly chunks: readonly Buffer[],
  ) {
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  submit(connection: Connection): void {
    connection.query(this.text);
  }

  handleCopyInResponse(connection: Connection & { sendCopyFromChunk(chunk: Buffer): void; endCopyFrom(): void }): void {
    const chunks = this.chunks[Symbol.iterator]();
    const next = (): void => {
      for (let chunk = chunks.next(); !chunk.done; chunk = chunks.next()) {
        connection.sendCopyFromChunk(chunk.value);
        if (connection.stream.writableNeedDrain) return void connection.stream.once('drain', next);
      }
      connection.endCopyFrom();
    };
    next();
  }

  handleError(error: unknown): void {
    this.reject(error);
  }

  handleCommandComplete(): void {}

  handleReadyForQuery(): void {
    this.resolve();
  }
}

/** Sends a stream made by `binaryCopy`. */
export async function copyInto(client: Client, target: string, chunks: readonly Buffer[]): Promise<void> {
  await client.query(new CopyIn(`COPY ${target} FROM STDIN (FORMAT binary)`, chunks)).done;
}

const HEADER = Buffer.concat([Buffer.from('PGCOPY\n\xff\r\n\0', 'latin1'), Buffer.alloc(8)]);
const ROWS_PER_CHUNK = 100;

/** Rows `(id bigint, embedding vector)` with ids from 1, in the format of COPY (FORMAT binary). */
export function binaryCopy(vectors: readonly Float32Array[]): Buffer[] {
  const chunks: Buffer[] = [HEADER];
  for (let at = 0; at < vectors.length; at += ROWS_PER_CHUNK) {
    const rows = vectors.slice(at, at + ROWS_PER_CHUNK).map((vector, i) => row(at + i + 1, vector));
    chunks.push(Buffer.concat(rows));
  }
  chunks.push(Buffer.from([0xff, 0xff]));
  return chunks;
}

/** int16 fields; then for each int32 length and value: int8, and pgvector's int16 dimensions, int16 0, float4s. */
function row(id: number, vector: Float32Array): Buffer {
  const out = Buffer.allocUnsafe(2 + 12 + 8 + 4 * vector.length);
  out.writeInt16BE(2, 0);
  out.writeInt32BE(8, 2);
  out.writeBigInt64BE(BigInt(id), 6);
  out.writeInt32BE(4 + 4 * vector.length, 14);
  out.writeInt16BE(vector.length, 18);
  out.writeInt16BE(0, 20);
  for (const [i, value] of vector.entries()) out.writeFloatBE(value, 22 + 4 * i);
  return out;
}
