import { type LeasedKey, MAX_ATTEMPTS } from '../claim/lease.js';
import type { Ending } from '../claim/settle.js';
import type { RowText } from '../store/port.js';
import type { Claim } from './claim-next.js';
import type { DrainContext } from './context.js';

/** A text that is to be embedded and paid for. */
export interface WantedText {
  readonly key: string;
  readonly text: string;
  readonly hash: string;
  readonly lease: LeasedKey;
}

/** A claim, sorted by what each row needs. Every key of the claim is in exactly one list. */
export interface ReadTexts {
  readonly token: string;
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
  const rows = await db.tx((tx) => store.read(tx, [...leases.keys()]));
  const wanted: WantedText[] = [];
  const confirm: string[] = [];
  const remove: string[] = [];
  const endings: Ending[] = [];
  for (const row of rows) {
    const lease = leases.get(row.key);
    if (lease === undefined) continue;
    const need = needOf(row, lease);
    if (need === 'embed') wanted.push({ key: row.key, text: row.text ?? '', hash: row.hash ?? '', lease });
    else if (need === 'confirm') confirm.push(row.key);
    else if (need === 'remove') remove.push(row.key);
    else endings.push(need);
  }
  return { token: claim.token, wanted, confirm, remove, endings };
}

function needOf(row: RowText, lease: LeasedKey): 'embed' | 'confirm' | 'remove' | Ending {
  const { key } = row;
  if (row.state === 'unwanted') return row.untidy ? 'remove' : { key, end: 'done' };
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
