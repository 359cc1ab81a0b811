import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';

type Runtime = typeof import('onnxruntime-node');
type Session = Awaited<ReturnType<Runtime['InferenceSession']['create']>>;

interface Library {
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] };
}

/** What one would write in an afternoon: tokenise, pad, run, pool, batch after batch, in the main thread. */
export class BareLoop {
  private constructor(
    private readonly runtime: Runtime,
    private readonly session: Session,
    private readonly tokenizer: Library,
  ) {}

  static async open(folder: string): Promise<BareLoop> {
    // transformers.js brings the runtime along.
    const require = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'));
    const runtime: Runtime = require('onnxruntime-node');
    const session = await runtime.InferenceSession.create(join(folder, 'onnx/model_quantized.onnx'));
    const read = (file: string) => JSON.parse(readFileSync(join(folder, file), 'utf8'));
    return new BareLoop(runtime, session, new Tokenizer(read('tokenizer.json'), read('tokenizer_config.json')));
  }

  /** One unit vector per text, in the order of the texts. */
  async embed(texts: readonly string[], how: { size: number; sorted: boolean }): Promise<Float32Array[]> {
    const ids = texts.map((text) => this.tokenizer.encode(text, { add_special_tokens: true }).ids);
    const order = ids.map((_, index) => index);
    if (how.sorted) order.sort((a, b) => (ids[a]?.length ?? 0) - (ids[b]?.length ?? 0));
    const vectors: Float32Array[] = new Array(texts.length);
    for (let at = 0; at < order.length; at += how.size) {
      const batch = order.slice(at, at + how.size);
      const found = await this.run(batch.map((index) => ids[index] as number[]));
      batch.forEach((index, row) => {
        vectors[index] = found[row] as Float32Array;
      });
    }
    return vectors;
  }

  async close(): Promise<void> {
    await this.session.release();
  }

  private async run(batch: readonly number[][]): Promise<Float32Array[]> {
    const width = Math.max(...batch.map((one) => one.length));
    const dims = [batch.length, width];
    const ids = new BigInt64Array(batch.length * width);
    const mask = new BigInt64Array(ids.length);
    batch.forEach((one, row) => {
      for (let i = 0; i < one.length; i++) {
        ids[row * width + i] = BigInt(one[i] as number);
        mask[row * width + i] = 1n;
      }
    });
    const { Tensor } = this.runtime;
    const { last_hidden_state: hidden } = await this.session.run({
      input_ids: new Tensor('int64', ids, dims),
      attention_mask: new Tensor('int64', mask, dims),
      token_type_ids: new Tensor('int64', new BigInt64Array(ids.length), dims),
    });
    const data = hidden?.data as Float32Array;
    const dimensions = hidden?.dims[2] as number;
    return batch.map((one, row) => meanOf(data, row * width * dimensions, one.length, dimensions));
  }
}

/** Mean of the token vectors from `start` on, scaled to length 1. */
function meanOf(data: Float32Array, start: number, tokens: number, dimensions: number): Float32Array {
  const vector = new Float32Array(dimensions);
  for (let token = 0; token < tokens; token++) {
    const at = start + token * dimensions;
    for (let i = 0; i < dimensions; i++) vector[i] = (vector[i] as number) + (data[at + i] as number);
  }
  const norm = Math.hypot(...vector);
  return vector.map((x) => x / norm);
}
