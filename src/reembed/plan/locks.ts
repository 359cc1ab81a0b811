import type { StoreKind } from '../../catalog/space.js';
import { lockBudgetMs } from '../../source/index.js';
import type { Findings, PlanContext } from './context.js';
import { backfillHotShare } from './hot.js';

/** What the app may have to wait for, when, and for how long; and whose triggers fire meanwhile. */
export async function measureLocks(context: PlanContext): Promise<Findings> {
  const { db, source, from, to, rows, table, hazards } = context;
  const relations = table.partitions + 1;
  const below = table.partitions > 0 ? ` and its ${table.partitions} partitions` : '';
  const onRows = to.store === 'column';
  const budget = lockBudgetMs(relations);
  const on = `on ${source.relation.schema}.${source.relation.table}${below}`;
  const brief = `at most ${budget} ms a try, or given back at once`;
  const words = [
    ...briefLocks(from.store, to.store).map(({ mode, when }) => `${mode} ${on} while ${when}, ${brief}`),
    `rows for 30 ms while backfilling, those that the app holds passed over`,
    ...(to.index.kind === 'none'
      ? []
      : [
          onRows
            ? 'SHARE UPDATE EXCLUSIVE while the index is built: reads and writes go on, VACUUM and ALTER wait'
            : "none on the table while the index is built: it is on freshvec's own",
        ]),
    'one row of freshvec.pointer for milliseconds at the switch',
  ];
  const fired = onRows ? hazards.updateTriggers : [];
  const oldest = await oldestTransaction(db);
  return {
    facts: [
      { name: 'locks', value: words.join('; '), unit: 'text', note: '' },
      { name: 'partitions', value: table.partitions, unit: 'count', note: '' },
      {
        name: 'triggers',
        value: fired.length === 0 ? 'none' : fired.join(', '),
        unit: 'text',
        note:
          fired.length === 0
            ? "of the table's own that the backfill fires"
            : `fire for each of ${rows} rows: updated_at moves, audit rows follow`,
      },
    ],
    notes: [
      ...(fired.length > 0
        ? [
            `The backfill updates every row, and fires the table's own triggers (${fired.join(', ')}): \`--store table\` leaves the rows alone.`,
          ]
        : []),
      // Vectors that are on the rows already were tried then.
      ...(fired.length > 0 && from.store !== 'column'
        ? [
            '`start` first updates a few rows, which fires these triggers, and rolls that back: if they change the content, it refuses, since each row would be embedded again and again.',
          ]
        : []),
      ...(from.store === 'column' && hazards.updateTriggers.length > 0
        ? [
            'The old vectors are not cleared before their column is dropped, since that would fire the triggers again: their room comes back only with a rewrite of the table, such as VACUUM FULL.',
          ]
        : []),
      ...(onRows && table.vectorIndexes.length > 0
        ? [
            `The table has a vector index (${table.vectorIndexes.join(', ')}): each row that the backfill moves to another page goes into it again (${Math.round(100 * (1 - backfillHotShare(context, table.fillfactor)))} % of all rows, by the room on the pages), about ten times as slow as one that stays.${to.index.kind === 'none' ? '' : ' Once the new index stands, each edit goes into both with every write to its row, until `complete`.'} \`--store table\` spares all of it.`,
          ]
        : []),
      ...(oldest !== undefined && to.index.kind !== 'none'
        ? [
            `A transaction has been open for ${oldest} s: the build of the index waits for all that are older than itself, and the lock for those that hold the table.`,
          ]
        : []),
    ],
  };
}

/** Columns that come or go take the stronger lock, and so do triggers that a store of another kind does not need. */
function briefLocks(from: StoreKind, to: StoreKind): { mode: string; when: string }[] {
  const modeIf = (strong: boolean) => (strong ? 'ACCESS EXCLUSIVE' : 'SHARE ROW EXCLUSIVE');
  const expanding = modeIf(to === 'column');
  const contracting = modeIf(from === 'column' || to !== from);
  return expanding === contracting
    ? [{ mode: expanding, when: 'expanding and contracting' }]
    : [
        { mode: expanding, when: 'expanding' },
        { mode: contracting, when: 'contracting' },
      ];
}

/** Seconds, where it is long enough to be in the way; sessions of other roles are seen by pg_monitor alone. */
async function oldestTransaction(db: PlanContext['db']): Promise<number | undefined> {
  const [row] = await db.query<{ seconds: number | null }>(
    `SELECT max(extract(epoch FROM clock_timestamp() - xact_start))::float8 AS seconds FROM pg_stat_activity
     WHERE pid <> pg_backend_pid() AND datname = current_database() AND backend_type = 'client backend'`,
  );
  return row?.seconds && row.seconds > 60 ? Math.round(row.seconds) : undefined;
}
