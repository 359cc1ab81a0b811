import { setTimeout as sleep } from 'node:timers/promises';
import type { KeyInput } from '../capture/index.js';
import { getSource, type Source } from '../catalog/source.js';
import { liveSpace } from '../catalog/space.js';
import type { Database, Executor } from '../db/database.js';
import { classify, FreshvecError } from '../db/errors.js';
import { openStore } from '../store/index.js';
import type { VectorCodec } from '../store/vector-codec.js';
import { openCodec } from './codec.js';
import { keyText } from './key-text.js';

export interface WaitOptions {
  /** 30 s unless told. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The text of this row cannot be embedded; `reason` is the failure on record. */
export class RowFailedError extends FreshvecError {
  override readonly name = 'RowFailedError';
  constructor(
    readonly source: string,
    readonly key: string,
    readonly reason: { readonly code: string; readonly message: string },
  ) {
    super('row_failed', `The row ${key} of "${source}" could not be embedded: ${reason.message} (${reason.code}).`);
  }
}

/** The row was not fresh in time. It is not lost: it stays stale until a worker comes to it. */
export class FreshnessTimeoutError extends FreshvecError {
  override readonly name = 'FreshnessTimeoutError';
  constructor(
    readonly source: string,
    readonly key: string,
    readonly timeoutMs: number,
  ) {
    super(
      'freshness_timeout',
      `The row ${key} of "${source}" was not fresh within ${timeoutMs} ms. Is a worker running? See \`freshvec status\`.`,
    );
  }
}

const DEFAULT_TIMEOUT_MS = 30_000;
/** Ms between looks: short at first, because a row is usually fresh within tens of milliseconds. */
const LOOK_MS = [5, 10, 20, 50, 100, 200] as const;

/**
 * Resolves once the row's vector in the live space is that of its present text, or the row should have none (it is gone,
 * filtered out or blank).
 * Throws RowFailedError, FreshnessTimeoutError, FreshvecError `source_unknown`, or the signal's reason.
 */
export async function waitUntilFresh(
  db: Database,
  sourceName: string,
  key: KeyInput,
  options: WaitOptions = {},
): Promise<void> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
  const deadline = performance.now() + timeoutMs;
  const source = await getSource(db, sourceName);
  const codec = await openCodec(db);
  const text = await keyText(db, source, key);
  for (let look = 0; ; look += 1) {
    signal?.throwIfAborted();
    const state = await stateOf(db, source, codec, text);
    if (state === 'settled') return;
    if (state !== 'stale') {
      const reason = await failureOf(db, source, text);
      // Where the content fails on the row, a worker has yet to find out, or to try again.
      if (state === 'failed' || reason.code === 'content_error') throw new RowFailedError(source.name, text, reason);
    }
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) throw new FreshnessTimeoutError(source.name, text, timeoutMs);
    const pauseMs = Math.min(LOOK_MS[Math.min(look, LOOK_MS.length - 1)] ?? leftMs, leftMs);
    await sleep(pauseMs, undefined, signal ? { signal } : {}).catch(() => signal?.throwIfAborted());
  }
}

/** `failed`: embedding the present text failed. `unreadable`: the content or the filter fails on the row as it is. */
type RowState = 'settled' | 'stale' | 'failed' | 'unreadable';

async function stateOf(db: Database, source: Source, codec: VectorCodec, key: string): Promise<RowState> {
  try {
    return await db.tx(async (tx) => {
      const live = await liveSpace(tx, source.id);
      if (!live) return 'stale';
      const [row] = await openStore(source, live.space, codec).read(tx, [key]);
      if (row === undefined || row.state !== 'wanted') return 'settled';
      return row.failedHash !== null && row.failedHash === row.hash ? 'failed' : 'stale';
    });
  } catch (error) {
    // PostgreSQL's message quotes the content.
    if (classify(error) === 'data') return 'unreadable';
    throw error;
  }
}

/** What is on record of this key in the live space. */
async function failureOf(db: Executor, source: Source, key: string): Promise<RowFailedError['reason']> {
  const [row] = await db.query<{ code: string; message: string }>(
    `SELECT f.code, f.message FROM freshvec.failure f JOIN freshvec.pointer p ON p.space_id = f.space_id
     WHERE p.source_id = $1 AND f.key = $2`,
    [source.id, key],
  );
  return row ?? { code: 'unknown', message: 'the failure was just taken off the list' };
}
