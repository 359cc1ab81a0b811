import type { z } from 'zod';
import { FreshvecError } from '../db/errors.js';
import { knownKeys } from './settings.js';
import { suggest } from './suggest.js';

/** The configuration cannot be used; the message names the setting and where it came from, never a secret. */
export class ConfigError extends FreshvecError {
  override readonly name = 'ConfigError';
  constructor(code: 'config_invalid' | 'database_missing', message: string, options?: ErrorOptions) {
    super(code, message, options);
  }
}

/** One sentence for each thing that is wrong. `label` turns a path like `database.url` into what the person wrote. */
export function invalidSettings(error: z.ZodError, where: string, label: (path: string) => string): ConfigError {
  const sentences = error.issues.map((issue) => {
    if (issue.code === 'unrecognized_keys') return issue.keys.map((key) => unknownKey(issue.path, key)).join(' ');
    return `${label(issue.path.map(String).join('.')) || 'The configuration'}: ${issue.message}.`;
  });
  return new ConfigError('config_invalid', `${where} cannot be used. ${sentences.join(' ')}`);
}

function unknownKey(path: readonly PropertyKey[], key: string): string {
  const known = knownKeys(path);
  const near = suggest(key, known) ?? elsewhere(key);
  const written = [...path.map(String), key].join('.');
  return `There is no setting "${written}"${near ? `; did you mean "${near}"` : `; there are: ${known.join(', ')}`}${near ? '?' : '.'}`;
}

/** A key that is right but stands in the wrong place: `slots` for `worker.slots`. */
function elsewhere(key: string): string | undefined {
  for (const group of knownKeys([])) {
    const near = suggest(key, knownKeys([group]));
    if (near) return `${group}.${near}`;
  }
  return undefined;
}
