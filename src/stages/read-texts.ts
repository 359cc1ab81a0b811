import { type LeasedKey, MAX_ATTEMPTS } from '../claim/lease.js';
import type { Ending } from '../claim/settle.js';
import { classify, sqlState } from '../db/errors.js';
import type { Priority } from '../embed/gate.js';
import type { RowText } from '../store/port.js';
import type { Claim } from './claim-next.js';
import type { DrainContext } from './context.js';

/** A text that is to be embedded and paid for. */
export interface WantedText {
  readonly key: string;
  readonly text: string;
  readonly hash: string;
  readonly page: string | undefined;
  readonly lease: LeasedKey;
}

/** A claim, sorted by what each row needs. Every key of the claim is in exactly one list. */
export interface ReadTexts {
  readonly token: string;
  readonly priority: Priority;
  readonly wanted: readonly WantedText[];
  /** Nothing to pay; the row carries a flag to lower. */
  readonly confirm: readonly string[];
  /** Rows that should have no vector and have one. */
  readonly remove: readonly string[];
  readonly endings: readonly Ending[];
}

/**
 * Reads text and state of the claimed rows, on the primary, in a statement begun after the claim committed: merged into
 * the claim it would miss an edit that commits in between.
 */
export async function readTexts({ db, store }: DrainContext, claim: Claim): Promise<ReadTexts> {
  const leases = new Map(claim.keys.map((lease) => [lease.key, lease]));
  const wanted: WantedText[] = [];
  const confirm: string[] = [];
  const remove: string[] = [];
  const endings: Ending[] = [];
  const rows = await readIsolated({ db, store }, [...leases.keys()], endings);
  for (const row of rows) {
    const lease = leases.get(row.key);
    if (lease === undefined) continue;
    const need = needOf(row, lease);
    const { key, text, hash, page } = row;
    if (need === 'embed') wanted.push({ key, text: text ?? '', hash: hash ?? '', page: page ?? undefined, lease });
    else if (need === 'confirm') confirm.push(key);
    else if (need === 'remove') remove.push(key);
    else endings.push(need);
  }
  return { token: claim.token, priority: claim.priority, wanted, confirm, remove, endings };
}

/** Reads the rows; one whose content cannot be had is found by halving, and fails alone. */
async function readIsolated(
  context: Pick<DrainContext, 'db' | 'store'>,
  keys: readonly string[],
  endings: Ending[],
): Promise<RowText[]> {
  try {
    return await context.db.tx((tx) => context.store.read(tx, keys), { eager: true });
  } catch (error) {
    const [key] = keys;
    if (classify(error) !== 'data' || key === undefined) throw error;
    if (keys.length === 1) {
      endings.push(contentFailed(key, sqlState(error)));
      return [];
    }
    const middle = keys.length >> 1;
    return [
      ...(await readIsolated(context, keys.slice(0, middle), endings)),
      ...(await readIsolated(context, keys.slice(middle), endings)),
    ];
  }
}

/** PostgreSQL's own message is left out: it quotes the content. */
function contentFailed(key: string, state: string | undefined): Ending {
  const message = `The content expression or the filter fails on this row (SQLSTATE ${state}). Edit the row, or alter the source.`;
  return { key, end: 'fail', code: 'content_error', message, attempts: 1, hash: null };
}

function needOf(row: RowText, lease: LeasedKey): 'embed' | 'confirm' | 'remove' | Ending {
  const { key } = row;
  if (row.state === 'unwanted') return row.untidy ? 'remove' : { key, end: 'done', vector: 'none' };
  if (row.state === 'fresh' && !lease.force) return row.untidy ? 'confirm' : { key, end: 'done' };
  if (row.failedHash === row.hash && !lease.force) return { key, end: 'skip' };
  if (lease.attempts < MAX_ATTEMPTS) return 'embed';
  return {
    key,
    end: 'fail',
    code: 'worker_lost',
    message: `${lease.attempts} workers died or went silent while they held this text.`,
    attempts: lease.attempts,
    hash: row.hash,
  };
}
