import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../../config/package-root.js';
import { FreshvecError } from '../../db/errors.js';

/** Width of a row of the table, whatever dimensions are asked for. */
export const ROW_LENGTH = 256;

export interface StaticFiles {
  /** Row-major, vocabulary × 256. */
  readonly table: Int8Array;
  /** One factor per row. */
  readonly scale: Float32Array;
  /** tokenizer.json of Hugging Face, parsed. */
  readonly tokenizer: object;
  readonly skipTokenIds: readonly number[];
  /** Changes when any of the files does. */
  readonly revision: string;
}

const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const configSchema = z.object({
  version: z.number(),
  vocabulary: z.number().int().positive(),
  skipTokenIds: z.array(z.number().int()),
  files: z.object({ 'table.int8.bin': sha256, 'scale.f32.bin': sha256, 'tokenizer.json': sha256 }),
});

/**
 * Reads `models/static-NAME` (8 MB) and compares each file with the sha256 in its config.json.
 * Throws FreshvecError `model_files_damaged`.
 */
export async function readStaticFiles(name: string, root: string = packageRoot()): Promise<StaticFiles> {
  const folder = join(root, 'models', `static-${name}`);
  const config = await readConfig(folder);
  const read = (file: keyof typeof config.files) => readVerified(folder, file, config.files[file]);
  const [table, scale, tokenizer] = await Promise.all([
    read('table.int8.bin'),
    read('scale.f32.bin'),
    read('tokenizer.json'),
  ]);
  if (table.length !== config.vocabulary * ROW_LENGTH || scale.length !== config.vocabulary * 4) {
    throw damaged(folder, 'the files do not fit the vocabulary');
  }
  const revision = createHash('sha256').update(Object.values(config.files).join()).digest('hex').slice(0, 16);
  return {
    table: new Int8Array(table.buffer, table.byteOffset, table.length),
    scale: Float32Array.from({ length: config.vocabulary }, (_, i) => scale.readFloatLE(i * 4)),
    tokenizer: z.looseObject({}).parse(JSON.parse(tokenizer.toString('utf8'))),
    skipTokenIds: config.skipTokenIds,
    revision: `${config.version}-${revision}`,
  };
}

async function readConfig(folder: string): Promise<z.infer<typeof configSchema>> {
  try {
    return configSchema.parse(JSON.parse(await readFile(join(folder, 'config.json'), 'utf8')));
  } catch (error) {
    throw damaged(folder, 'config.json is missing or makes no sense', error);
  }
}

async function readVerified(folder: string, file: string, expected: string): Promise<Buffer> {
  const bytes = await readFile(join(folder, file)).catch((error: unknown) => {
    throw damaged(folder, `${file} cannot be read`, error);
  });
  if (createHash('sha256').update(bytes).digest('hex') !== expected) {
    throw damaged(folder, `${file} does not have the sha256 that config.json names`);
  }
  return bytes;
}

function damaged(folder: string, what: string, cause?: unknown): FreshvecError {
  return new FreshvecError('model_files_damaged', `${folder}: ${what}; install freshvec again`, { cause });
}
