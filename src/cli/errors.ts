import { CommanderError } from 'commander';
import { FreshvecError } from '../db/errors.js';
import { describeError } from '../observe/log.js';
import { EXIT, type ExitCode } from './io.js';

/** The command was not called as it can be; exit code 2. */
export class UsageError extends FreshvecError {
  override readonly name = 'UsageError';
  constructor(message: string) {
    super('usage', message);
  }
}

const USAGE_CODES: ReadonlySet<string> = new Set([
  'usage',
  'config_invalid',
  'database_missing',
  'model_unknown',
  'search_request_invalid',
  'pause_request_invalid',
  'maintenance_request_invalid',
  'reindex_request_invalid',
]);

/** An error as a person or a script is told of it. */
export interface Told {
  readonly code: string;
  readonly message: string;
  readonly exitCode: ExitCode;
}

export function tell(error: unknown): Told {
  if (error instanceof CommanderError) {
    const message = error.message.replace(/^error: /, '').replace(/\n/g, ' ');
    return { code: 'usage', message: `${sentence(message)} See --help.`, exitCode: EXIT.usage };
  }
  const { code, message } = describeError(error);
  const exitCode = error instanceof FreshvecError && USAGE_CODES.has(code) ? EXIT.usage : EXIT.error;
  return { code, message: sentence(message), exitCode };
}

function sentence(message: string): string {
  return /[.?!:)]$/.test(message) ? message : `${message}.`;
}
