import type { LongText } from '../catalog/long-texts.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import type { Executor } from '../db/database.js';

/** What became of one key in a write. One place turns these into the end of its lease: `claim/settle.ts`. */
export type WriteOutcome =
  /** The row now is what the item says. */
  | 'written'
  /** The same, but the app's triggers changed the text in that very update: it is stale again. */
  | 'restless'
  /** An UPDATE trigger of the app's kept the row as it was, without an error. */
  | 'vetoed'
  /** The text (or whether the row wants a vector) changed since it was read. */
  | 'changed'
  /** Another transaction holds the row, or its lease, just now; ask again soon. */
  | 'locked'
  /** There is no such row, and nothing of it that would have to go. */
  | 'gone'
  /** The lease is not ours any more; nothing was written. */
  | 'lost';

/** A row as the worker sees it before it embeds. */
export interface RowText {
  readonly key: string;
  /** `wanted`: eligible, not fresh. `fresh`: has this text's vector. `unwanted`: not eligible, or not there. */
  readonly state: 'wanted' | 'fresh' | 'unwanted';
  /** The row is there; false after a delete. */
  readonly exists: boolean;
  /** The row carries something to clean up: a flag that is up, or a vector that it should not have. */
  readonly untidy: boolean;
  /** The text to embed; null unless it is eligible. */
  readonly text: string | null;
  /** Hash of the text, by the server; null unless it is eligible. */
  readonly hash: string | null;
  /** Where the row is: rows with the same word are on one page of one table. Null unless it is there. */
  readonly page: string | null;
  /** The hash under which embedding this key failed before, if it did. */
  readonly failedHash: string | null;
}

export interface WriteItem {
  readonly key: string;
  /** Hash of the text that the vector was made from: the compare of the compare-and-set. */
  readonly hash: string;
  /** Float32Array of length `space.dimensions`. */
  readonly vector: Float32Array;
}

/** What goes along with a write: vectors of another space, made from the same texts, in the order of the items. */
export interface OtherSpace {
  readonly space: Space;
  readonly token: string;
  /** Each of length `space.dimensions`. */
  readonly vectors: readonly Float32Array[];
}

/** A vector as the store has it. */
export interface StoredVector {
  readonly hash: string;
  /** Float32Array of length `space.dimensions`. */
  readonly vector: Float32Array;
  /** How it was made, where its text was too long. */
  readonly long: LongText | undefined;
}

/** Pages [fromPage, toPage) of one plain table: the source, or a leaf of it. */
export interface PageRange {
  readonly relationOid: number;
  readonly fromPage: number;
  readonly toPage: number;
}

export interface StoreCount {
  /** Eligible rows. */
  readonly rows: number;
  readonly fresh: number;
  /** Eligible, not fresh, and the failure on record is that of the present text. */
  readonly failed: number;
  /** Vectors in the space, fresh or not. */
  readonly vectors: number;
}

/** A transaction id (32 bits, as text), and which side of it. */
export interface WrittenIn {
  readonly xid: string;
  readonly when: 'before' | 'since';
}

/** Rows of some pages, and those of them that are not as they should be although nobody knows of it. */
export interface CoverageCount {
  /** Eligible rows. */
  readonly rows: number;
  /** Eligible rows, not fresh, whose failure on record is that of the present text and was not discarded. */
  readonly failed: number;
  /** Without a change, lease or failure: eligible rows with no vector, */
  readonly missing: number;
  /** eligible rows whose vector is of another text or model, */
  readonly stale: number;
  /** and rows with a vector that should have none. */
  readonly surplus: number;
  /** Keys of some of these, at most 5. */
  readonly examples: readonly string[];
}

/** A fresh row's text and vector. */
export interface FreshVector {
  readonly key: string;
  readonly text: string;
  /** Of length `space.dimensions`. */
  readonly vector: Float32Array;
}

/** What a visit took over of vectors that were there before. */
export interface Adopted {
  /** Rows whose vector now counts as made from their present text. */
  readonly adopted: number;
  /** Rows that somebody holds, or changed at that moment: the pages want another visit. */
  readonly held: number;
  /** How long the rows were locked before the commit, in ms, by the database's clock. */
  readonly lockedMs: number;
}

/**
 * What ends the leases whose keys `locked` selects, in the statement that wrote their vectors: CTEs, of which `__fv_ended` has
 * `key` and `seconds` (its edit's age, or NULL), and their parameters, the first of which is number `first`.
 */
export type SettleSql = (
  locked: string,
  first: number,
) => { readonly ctes: string; readonly params: readonly unknown[] };

/** What one statement wrote and settled. */
export interface SettledWrite {
  /** Keys whose vector is written and whose lease has ended. */
  readonly written: readonly string[];
  /** As in `WriteOutcome`; their leases have not ended. */
  readonly restless: readonly string[];
  /** How long ago, in s, the interactive edits were made that are done and not waiting again. */
  readonly lagSeconds: readonly number[];
  /** How long the rows were locked before the commit and the AFTER triggers, in ms, by the database's clock. */
  readonly lockedMs: number;
}

/**
 * Where the vectors of one space are. Every method runs in the caller's transaction and holds no state; a write, a
 * removal and a confirmation happen only under a lease with this token, source rows locked before leases, both in key
 * order and both SKIP LOCKED, so that the app neither waits for a worker nor deadlocks with one.
 */
export interface Store {
  readonly source: Source;
  readonly space: Space;
  /** Reads these keys; one RowText for every key, also for those that are gone. */
  read(tx: Executor, keys: readonly string[]): Promise<RowText[]>;
  /** Writes each vector where the row's text still has the item's hash. */
  write(tx: Executor, token: string, items: readonly WriteItem[]): Promise<Map<string, WriteOutcome>>;
  /**
   * The same, with the leases of what was written settled in that statement, the last of its transaction: locks are held for
   * as short as can be. Why other keys were not written, and whether they may be, is for `write` to tell.
   */
  writeAndSettle(tx: Executor, token: string, items: readonly WriteItem[], settling: SettleSql): Promise<SettledWrite>;
  /**
   * A write together with the vectors of another space on the same rows: a row gets both in one new version, or neither
   * where a lease of the two is not to be had (`locked` or `lost`). Absent where vectors are not on the source's rows.
   */
  writeBoth?(
    tx: Executor,
    token: string,
    items: readonly WriteItem[],
    other: OtherSpace,
  ): Promise<Map<string, WriteOutcome>>;
  /** The vectors of these keys that are there, with the hash of the text that each was made from. */
  vectors(tx: Executor, keys: readonly string[]): Promise<Map<string, StoredVector>>;
  /** Takes the vectors of rows that should have none; `changed` where the row became eligible. */
  remove(tx: Executor, token: string, keys: readonly string[]): Promise<Map<string, WriteOutcome>>;
  /** Lowers the flag of rows whose vector is that of their text; `changed` where it is not. */
  confirm(tx: Executor, token: string, keys: readonly string[]): Promise<Map<string, WriteOutcome>>;
  /** Keys in these pages that are not as they should be and that nobody holds; at most `limit`. */
  diff(tx: Executor, pages: PageRange, limit: number): Promise<string[]>;
  /**
   * Takes over vectors in these pages that were there before the space was, unless their row was edited since; at most
   * `limit`. Nothing to take over where the space's adoption is not open.
   */
  adopt(tx: Executor, pages: PageRange, limit: number): Promise<Adopted>;
  /** All keys in these pages that nobody holds and that have not failed: where the content of some row cannot be had. */
  suspects(tx: Executor, pages: PageRange, written?: WrittenIn): Promise<string[]>;
  /**
   * Counts what is wrong in these pages without a change, lease or failure that would mend it, in one snapshot: of the
   * rows that were written before a transaction began, or of those that it or a later one wrote.
   */
  uncovered(tx: Executor, pages: PageRange, written: WrittenIn): Promise<CoverageCount>;
  /** Text and vector of those of these keys that are fresh. */
  freshVectors(tx: Executor, keys: readonly string[]): Promise<FreshVector[]>;
  /**
   * Keys whose row is gone and of which a vector, a failure or a note of a long text is left, at most `limit`; a key may come
   * more than once. Takes nothing away: the row may be back by now, so that is for whoever holds the key's lease.
   */
  orphans(tx: Executor, limit: number): Promise<string[]>;
  /** Exact counts by hash. Reads the whole source, which a limit of the role's would end: `takeTime`. */
  count(tx: Executor): Promise<StoreCount>;
}
