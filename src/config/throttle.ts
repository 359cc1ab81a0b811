import { z } from 'zod';

/** What a re-embedding slows down for; docs/throttle.md explains each bound. `null` switches a signal off. */
export interface ThrottleSettings {
  /** How far a replica may be behind. */
  readonly replicaLagSeconds: number | null;
  readonly replicaLagBytes: number | null;
  /** How long a replica that went away is waited for. */
  readonly replicaGoneSeconds: number;
  /** `application_name`s of replicas that may lag, such as one that is delayed on purpose. */
  readonly ignoreReplicas: readonly string[];
  /** WAL that a replication slot may keep from being removed. */
  readonly slotBytes: number | null;
  /** WAL that the whole server may write a second. */
  readonly walBytesPerSecond: number | null;
  /** WAL files on disk. */
  readonly walDirectoryBytes: number | null;
  /** Checkpoints forced by the amount of WAL, in a minute. */
  readonly requestedCheckpoints: number | null;
  /** Statements that wait for a lock on the source at one time, and for how long. */
  readonly lockWaiters: number | null;
  readonly lockWaitMs: number | null;
  /** Age of the oldest transaction that keeps dead rows from being removed. */
  readonly transactionSeconds: number | null;
  /** The same in transactions, slots and replicas included. */
  readonly xminAge: number | null;
  /** Slows down while a vacuum runs on the source. */
  readonly vacuum: boolean;
  /** Dead rows as a part of all. */
  readonly deadRowShare: number | null;
  /** A directory on the database's disk, where that is on this machine. */
  readonly diskPath: string | null;
  /** Part of that disk that may be in use. */
  readonly diskUsedShare: number;
  /** Size that the database may grow to. */
  readonly maxDatabaseBytes: number | null;
  /** How long the probe may take. */
  readonly probeMs: number | null;
  /** The same as a multiple of what it took while the backfill rested; the lower of the two holds. */
  readonly probeBaselineTimes: number | null;
  /** One read-only statement; else a row of the source by its key. */
  readonly probeSql: string | null;
  /** Part of the time that a backfill may take while searches go by an index of the live vectors. */
  readonly indexedShare: number | null;
  /** How long an edit of the source may have waited for a worker. */
  readonly editWaitSeconds: number | null;
  /** How long a provider may make us wait. */
  readonly providerWaitSeconds: number | null;
  /** A signal that cannot be read for so long stops the backfill. */
  readonly unknownStopsSeconds: number | null;
}

const MIB = 2 ** 20;

export const THROTTLE_DEFAULTS: ThrottleSettings = Object.freeze({
  replicaLagSeconds: 1,
  replicaLagBytes: 128 * MIB,
  replicaGoneSeconds: 600,
  ignoreReplicas: [],
  slotBytes: 1024 * MIB,
  walBytesPerSecond: 64 * MIB,
  walDirectoryBytes: null,
  requestedCheckpoints: 1,
  lockWaiters: 4,
  lockWaitMs: 100,
  transactionSeconds: 600,
  xminAge: 10_000_000,
  vacuum: true,
  deadRowShare: 0.5,
  diskPath: null,
  diskUsedShare: 0.9,
  maxDatabaseBytes: null,
  probeMs: 100,
  probeBaselineTimes: null,
  probeSql: null,
  indexedShare: 0.33,
  editWaitSeconds: 5,
  providerWaitSeconds: 5,
  unknownStopsSeconds: 900,
});

const seconds = z.number().positive().max(31_536_000);
const bytes = z.number().int().min(1).max(Number.MAX_SAFE_INTEGER);
const share = z.number().gt(0, 'must be over 0').lt(1, 'must be below 1');
const number = z.number().int().min(0).max(1e9);
const text = z.string().regex(/\S/, 'must not be empty');

/** The section `throttle` of the configuration. */
export const throttleSchema = z
  .strictObject({
    replicaLagSeconds: seconds.nullable(),
    replicaLagBytes: bytes.nullable(),
    replicaGoneSeconds: seconds,
    ignoreReplicas: z.array(text),
    slotBytes: bytes.nullable(),
    walBytesPerSecond: bytes.nullable(),
    walDirectoryBytes: bytes.nullable(),
    requestedCheckpoints: number.nullable(),
    lockWaiters: number.nullable(),
    lockWaitMs: z.number().min(0).max(86_400_000).nullable(),
    transactionSeconds: seconds.nullable(),
    xminAge: number.nullable(),
    vacuum: z.boolean(),
    deadRowShare: share.nullable(),
    diskPath: text.nullable(),
    diskUsedShare: share,
    maxDatabaseBytes: bytes.nullable(),
    probeMs: z.number().positive().max(2_000, 'must be at most 2000').nullable(),
    probeBaselineTimes: z.number().gt(1, 'must be over 1').max(1e6).nullable(),
    probeSql: text.nullable(),
    indexedShare: share.nullable(),
    editWaitSeconds: seconds.nullable(),
    providerWaitSeconds: z.number().min(0).max(31_536_000).nullable(),
    unknownStopsSeconds: seconds.nullable(),
  })
  .partial();
