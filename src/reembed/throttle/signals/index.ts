import type { Source } from '../../../catalog/source.js';
import type { ThrottleSettings } from '../../../config/throttle.js';
import type { DatabaseKind } from '../../../db/database.js';
import type { Reader } from '../reading.js';
import { appLatency } from './app-latency.js';
import { checkpoints } from './checkpoints.js';
import { databaseSize } from './database-size.js';
import { deadRows } from './dead-rows.js';
import { disk } from './disk.js';
import { editsWaiting } from './edits-waiting.js';
import { lockWaiters } from './lock-waiters.js';
import { oldTransactions } from './old-transactions.js';
import { provider } from './provider.js';
import { replicaLag } from './replica-lag.js';
import { slots } from './slots.js';
import { vacuum } from './vacuum.js';
import { vectorIndex } from './vector-index.js';
import { walDirectory } from './wal-directory.js';
import { walRate } from './wal-rate.js';

export interface ThrottleTarget {
  readonly source: Pick<Source, 'id' | 'relation' | 'key'>;
  /** Other tables that the backfill writes, by oid: that of a table store. */
  readonly writes?: readonly number[];
  /** Names of `freshvec.account` that the new model is asked through; empty for one that runs here. */
  readonly accounts?: readonly string[];
}

/**
 * The signals that are switched on. The embedded database has one connection, no replicas and no autovacuum: there, only
 * edits, searches, its size, its disk and the provider can be pressed.
 */
export function openReaders(kind: DatabaseKind, settings: ThrottleSettings, target: ThrottleTarget): Reader[] {
  const relations = [target.source.relation.oid, ...(target.writes ?? [])];
  const everywhere = [
    editsWaiting(settings, target.source.id),
    vectorIndex(settings, target.source),
    disk(settings),
    databaseSize(settings),
    provider(settings, target.accounts ?? []),
  ];
  const ofServers = () => [
    replicaLag(settings),
    slots(settings),
    walRate(settings),
    checkpoints(settings),
    walDirectory(settings),
    lockWaiters(settings, relations),
    oldTransactions(settings),
    vacuum(settings, relations),
    deadRows(settings, relations),
  ];
  const readers =
    kind === 'postgres' ? [...ofServers(), ...everywhere, appLatency(settings, target.source)] : everywhere;
  return readers.filter((reader) => reader !== undefined);
}
