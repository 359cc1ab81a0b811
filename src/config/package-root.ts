import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FreshvecError } from '../db/errors.js';

/**
 * The folder of freshvec's own package.json: found by walking up, so that it is the same from `src` (tests) and from
 * `dist/src` (compiled). `models/` and `migrations/` stand in it.
 * Throws FreshvecError `package_damaged` where no such folder is above.
 */
export function packageRoot(from: string = fileURLToPath(import.meta.url)): string {
  let folder = dirname(from);
  while (!isFreshvec(folder)) {
    const parent = dirname(folder);
    if (parent === folder) {
      throw new FreshvecError('package_damaged', `no package.json of freshvec above ${from}: install freshvec again`);
    }
    folder = parent;
  }
  return folder;
}

function isFreshvec(folder: string): boolean {
  try {
    const manifest: unknown = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return typeof manifest === 'object' && manifest !== null && 'name' in manifest && manifest.name === 'freshvec';
  } catch {
    return false;
  }
}
