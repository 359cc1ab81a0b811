import type { ThrottleSettings } from '../../../config/throttle.js';
import { readOnly } from '../../../db/snapshot.js';
import { BACKGROUND_FLOOR, type Gauge, judge, mayNotSee, READ_MS, type Reader, unknown } from '../reading.js';

type Settings = Pick<ThrottleSettings, 'transactionSeconds' | 'xminAge'>;

/**
 * What keeps dead rows from being removed: transactions that are open for long, prepared ones, and the xmin of replicas
 * and slots. A backfill that updates rows meanwhile only makes the table larger.
 */
export function oldTransactions({ transactionSeconds, xminAge }: Settings): Reader | undefined {
  const gauges: Gauge[] = [];
  if (transactionSeconds !== null) gauges.push({ name: 'transaction_age', unit: 's', bound: transactionSeconds });
  if (xminAge !== null) gauges.push({ name: 'xmin_age', unit: 'transactions', bound: xminAge });
  if (gauges.length === 0) return undefined;
  return {
    gauges,
    async read(db) {
      const [row] = await readOnly(db, READ_MS).query<OldestRow>(OLDEST);
      if (!row) throw new Error('pg_stat_activity gave no answer');
      return gauges.map((gauge) => {
        const [value, holder] = gauge.unit === 's' ? [row.seconds, row.oldest] : [row.xids, row.holder];
        const note = holder === null ? undefined : `${holder} keeps dead rows from being removed`;
        const reading = judge(gauge, value ?? 0, { floor: BACKGROUND_FLOOR, note });
        if (reading.signal.state === 'pressed' || !row.hidden) return reading;
        const setting = gauge.unit === 's' ? 'transactionSeconds' : 'xminAge';
        return unknown(gauge, mayNotSee("other roles' transactions", row.role, setting));
      });
    },
  };
}

type OldestRow = {
  role: string;
  /** Somebody else is connected whose transactions this role may not see. */
  hidden: boolean;
  seconds: number | null;
  oldest: string | null;
  xids: number | null;
  holder: string | null;
};

/** VACUUM's own snapshot holds nobody up. Walsenders have the xmin of replicas with hot_standby_feedback. */
const OLDEST = `WITH held AS (
  SELECT format('process %s (%s)', a.pid, a.application_name) AS holder,
    CASE WHEN a.backend_type = 'client backend' THEN extract(epoch FROM clock_timestamp() - a.xact_start) END AS seconds,
    age(coalesce(a.backend_xmin, a.backend_xid)) AS xids
  FROM pg_stat_activity a
  WHERE a.backend_type IN ('client backend', 'walsender') AND a.pid <> pg_backend_pid()
    AND (a.datname = current_database() OR a.datname IS NULL)
    AND (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL)
    AND a.pid NOT IN (SELECT p.pid FROM pg_stat_progress_vacuum p)
  UNION ALL
  SELECT format('the prepared transaction %L', p.gid), extract(epoch FROM clock_timestamp() - p.prepared), age(p.transaction)
  FROM pg_prepared_xacts p WHERE p.database = current_database()
  UNION ALL
  SELECT format('the replication slot "%s"', s.slot_name), NULL, age(s.xmin)
  FROM pg_replication_slots s WHERE s.xmin IS NOT NULL)
SELECT current_user::text AS role,
  NOT pg_has_role('pg_read_all_stats', 'USAGE') AND EXISTS (
    SELECT FROM pg_stat_activity a
    WHERE a.datname = current_database() AND a.usesysid IS NOT NULL AND NOT pg_has_role(a.usesysid, 'USAGE')) AS hidden,
  (SELECT seconds::float8 FROM held WHERE seconds IS NOT NULL ORDER BY seconds DESC LIMIT 1) AS seconds,
  (SELECT holder FROM held WHERE seconds IS NOT NULL ORDER BY seconds DESC LIMIT 1) AS oldest,
  (SELECT xids FROM held WHERE xids IS NOT NULL ORDER BY xids DESC LIMIT 1) AS xids,
  (SELECT holder FROM held WHERE xids IS NOT NULL ORDER BY xids DESC LIMIT 1) AS holder`;
