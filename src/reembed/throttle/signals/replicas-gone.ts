export interface Replica {
  readonly name: string;
  readonly address: string | null;
  /** Null where this role may not see it. */
  readonly state: string | null;
  /** Position up to which it replayed, or at least received, in bytes of WAL. */
  readonly position: number | null;
  /** pg_stat_replication.replay_lag, in s. */
  readonly seconds: number | null;
}

/** Replicas that were there: by name and address, how many, and when they last were, in s of the database's clock. */
export type Replicas = Map<string, { readonly name: string; count: number; seenAt: number }>;

export function noteReplicas(known: Replicas, present: readonly Replica[], now: number): void {
  for (const [id, { name, count }] of counted(present)) {
    const before = known.get(id);
    if (before === undefined || count >= before.count) known.set(id, { name, count, seenAt: now });
  }
}

/**
 * A sentence about a replica that was there and is not; undefined where all are. One that stays away for longer than
 * `goneSeconds` was taken away, and is forgotten. What it must be sent later is kept by its slot, which is another signal.
 */
export function missing(
  known: Replicas,
  present: readonly Replica[],
  now: number,
  goneSeconds: number,
): string | undefined {
  const there = counted(present);
  let told: string | undefined;
  for (const [id, replica] of known) {
    const count = there.get(id)?.count ?? 0;
    if (count >= replica.count) continue;
    const seconds = now - replica.seenAt;
    if (seconds > goneSeconds) {
      if (count === 0) known.delete(id);
      else known.set(id, { ...replica, count, seenAt: now });
    } else {
      told ??=
        `the replica "${replica.name}" went away ${Math.round(seconds)} s ago, and how far it is behind cannot be known: ` +
        `it is waited for ${goneSeconds} s (throttle.replicaGoneSeconds)`;
    }
  }
  return told;
}

function counted(present: readonly Replica[]): Map<string, { name: string; count: number }> {
  const counts = new Map<string, { name: string; count: number }>();
  for (const { name, address } of present) {
    const id = `${name} ${address ?? ''}`;
    counts.set(id, { name, count: (counts.get(id)?.count ?? 0) + 1 });
  }
  return counts;
}
