/** How long a lease lasts unless it is renewed, by the database's clock. */
export const LEASE_SECONDS = 120;

/** Attempts after which a key is set aside with a failure row. */
export const MAX_ATTEMPTS = 5;

/** Lanes of `freshvec.change`, in the order in which they are served. */
export const LANES = { interactive: 0, bulk: 1 } as const;
export type Lane = (typeof LANES)[keyof typeof LANES];

/** One key that this worker holds. */
export interface LeasedKey {
  readonly key: string;
  /** Times that the text was charged for a failure before this one. */
  readonly attempts: number;
  /** Writes lost in a row because the text changed meanwhile. */
  readonly losses: number;
  /** Embed and pay even if the text is that of the vector. */
  readonly force: boolean;
}

export type LeaseRow = { key: string; attempts: number; losses: number; force: boolean };

export function toLeasedKey(row: LeaseRow): LeasedKey {
  return { key: row.key, attempts: row.attempts, losses: row.losses, force: row.force };
}
