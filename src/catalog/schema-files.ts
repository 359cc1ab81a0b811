import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../config/package-root.js';
import { FreshvecError } from '../db/errors.js';

/** One file of `migrations/`: `NNNN_name.sql`, whose first line is `-- freshvec: safe` or `-- freshvec: breaking`. */
export interface SchemaFile {
  readonly version: number;
  readonly name: string;
  /** Code that does not know this migration must not work on a database that has it. */
  readonly breaking: boolean;
  readonly sql: string;
  /** sha256 of the text, the same whatever the line ends. */
  readonly checksum: string;
}

const FILE_NAME = /^(\d{4})_([a-z0-9_]+)\.sql$/;
const FIRST_LINE = /^-- freshvec: (safe|breaking)$/;

/** The migrations that this code knows, in order. */
export function schemaFiles(folder: string = join(packageRoot(), 'migrations')): SchemaFile[] {
  const names = readdirSync(folder).filter((name) => name.endsWith('.sql'));
  const files = names.map((name) => parse(name, readFileSync(join(folder, name), 'utf8')));
  files.sort((a, b) => a.version - b.version);
  for (const [i, file] of files.entries()) {
    if (file.version === files[i + 1]?.version) throw damaged(`two migrations have the number ${file.version}`);
  }
  return files;
}

function parse(file: string, text: string): SchemaFile {
  const sql = text.replaceAll('\r\n', '\n');
  const [, version, name] = FILE_NAME.exec(file) ?? [];
  const [, kind] = FIRST_LINE.exec(sql.slice(0, sql.indexOf('\n'))) ?? [];
  if (version === undefined || name === undefined) throw damaged(`${file} is not named NNNN_name.sql`);
  if (kind === undefined) throw damaged(`${file} does not begin with "-- freshvec: safe" or "-- freshvec: breaking"`);
  const checksum = createHash('sha256').update(sql).digest('hex');
  return { version: Number(version), name, breaking: kind === 'breaking', sql, checksum };
}

function damaged(what: string): FreshvecError {
  return new FreshvecError('package_damaged', `The folder migrations/ of freshvec is damaged: ${what}.`);
}
