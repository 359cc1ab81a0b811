/** The base of every error that freshvec throws on purpose: a stable code, and a message that says what to do. */
export class FreshvecError extends Error {
  override readonly name: string = 'FreshvecError';
  constructor(
    readonly code: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What a failed statement means for the caller. The one place where SQLSTATEs are classified. */
export type DatabaseFailure =
  | 'retry'
  | 'lock_timeout'
  | 'connection'
  | 'privilege'
  | 'disk'
  | 'too_many'
  | 'data'
  | 'constraint'
  | 'other';

/** Reads the SQLSTATE of a driver's error; undefined for anything else. */
export function sqlState(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  const { code } = error;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}

const CONNECTION_CODES = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EAI_AGAIN']);

/** Classifies an error of a statement by SQLSTATE (PostgreSQL documentation, appendix A) or by socket error. */
export function classify(error: unknown): DatabaseFailure {
  const state = sqlState(error);
  if (state === undefined) return isConnectionError(error) ? 'connection' : 'other';
  if (state === '55P03' || state === '57014') return 'lock_timeout';
  if (state === '53300') return 'too_many';
  if (state === '53100' || state === '53200') return 'disk';
  if (state === '42501') return 'privilege';
  if (state === '40001' || state === '40P01') return 'retry';
  if (state.startsWith('08') || state.startsWith('57P')) return 'connection';
  // Data exceptions, and RAISE in a function of the user's: an expression that one row cannot stand.
  if (state.startsWith('22') || state === 'P0001') return 'data';
  // A row that the table does not take: integrity constraints, a view's CHECK OPTION.
  if (state.startsWith('23') || state.startsWith('44')) return 'constraint';
  // "tuple to be locked was already moved to another partition due to concurrent update"
  if (state === '55000' && error instanceof Error && error.message.includes('moved to another partition'))
    return 'retry';
  return 'other';
}

/** The row itself is why: its neighbours in the statement could have been written. */
export function isOfOneRow(error: unknown): boolean {
  const failure = classify(error);
  return failure === 'data' || failure === 'constraint';
}

/** What the SQL functions `enqueue` and `key_text` refuse, by SQLSTATE. */
const OWN_CODES: Readonly<Record<string, string>> = {
  '22023': 'key_invalid',
  '22004': 'key_invalid',
  '42704': 'source_unknown',
};
const OWN_PREFIX = /^freshvec[\w.]*: (.)/;

/** The role of an app has not been granted freshvec. */
export function privilegeMissing(cause: unknown): FreshvecError {
  return new FreshvecError(
    'privilege_missing',
    "This role may not use freshvec's schema: as the role that owns it, run `freshvec schema grant ROLE`.",
    { cause },
  );
}

/**
 * What the SQL functions `enqueue` and `key_text` refuse, which quotes no value, as FreshvecError with their hint; any
 * other error as it is.
 */
export function withOwnCode(error: unknown): unknown {
  if (classify(error) === 'privilege') return privilegeMissing(error);
  const code = OWN_CODES[sqlState(error) ?? ''];
  if (code === undefined || !(error instanceof Error) || !OWN_PREFIX.test(error.message)) return error;
  const message = error.message.replace(OWN_PREFIX, (_, first: string) => first.toUpperCase());
  const hint = 'hint' in error && typeof error.hint === 'string' ? ` ${error.hint}` : '';
  return new FreshvecError(code, `${message}.${hint}`, { cause: error });
}

function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const code = 'code' in error ? error.code : undefined;
  if (typeof code === 'string' && CONNECTION_CODES.has(code)) return true;
  return /Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error/.test(
    error.message,
  );
}
