import { ident } from '../../db/identifiers.js';
import type { Findings, PlanContext } from './context.js';
import { megabytes } from './disk.js';

const MIB = 2 ** 20;
/** A container's /dev/shm, unless it was told otherwise. */
const CONTAINER_SHM_BYTES = 64 * MIB;

export type BuildMemory = {
  readonly bytes: number;
  readonly workers: number;
  readonly role: string;
  readonly posix: boolean;
};

/** What the build of the index gets: the configured, or the server's own. */
export async function buildMemory({ db, settings }: Pick<PlanContext, 'db' | 'settings'>): Promise<BuildMemory> {
  const { maintenanceWorkMem, parallelWorkers } = settings.index ?? {};
  const [row] = await db.query<BuildMemory>(
    `SELECT pg_size_bytes(CASE WHEN wanted ~ '^\\d+$' THEN wanted || 'kB' ELSE wanted END)::float8 AS bytes,
       COALESCE($2::int, current_setting('max_parallel_maintenance_workers')::int) AS workers, current_user::text AS role,
       current_setting('dynamic_shared_memory_type') = 'posix' AS posix
     FROM COALESCE($1::text, current_setting('maintenance_work_mem')) AS wanted`,
    [maintenanceWorkMem ?? null, parallelWorkers ?? null],
  );
  if (!row) throw new TypeError('the settings gave no row');
  return row;
}

/** The graph wants to be in memory while it is built: beyond that a build is several times slower. */
export async function measureMemory(context: PlanContext): Promise<Findings> {
  const { to, sizes, table } = context;
  if (sizes.index === 0) return {};
  const { bytes, workers, role, posix } = await buildMemory(context);
  const fits = sizes.graph <= bytes;
  const most = table.partitions > 0 && to.store === 'column' ? 'of the largest partition, ' : '';
  const wanted = Math.ceil((sizes.graph * 1.1) / MIB);
  const has = `maintenance_work_mem is ${megabytes(bytes)}`;
  return {
    facts: [
      {
        name: 'graphBytes',
        value: Math.round(sizes.graph),
        unit: 'bytes',
        note: `the graph in memory ${most}while the index is built; ${has}: ${fits ? 'it fits' : 'it does NOT fit'}`,
      },
      {
        name: 'buildWorkers',
        value: workers,
        unit: 'count',
        note: 'max_parallel_maintenance_workers of the build, beside the one that leads it',
      },
    ],
    notes: [
      ...(fits
        ? []
        : [
            `The index's graph does not fit into memory, so its build takes several times as long: ALTER ROLE ${ident(role)} SET maintenance_work_mem = '${wanted}MB', if the server has so much to spare.`,
          ]),
      ...(workers > 0 && posix && Math.max(bytes, fits ? 0 : wanted * MIB) > CONTAINER_SHM_BYTES
        ? [
            'A parallel build keeps its graph in shared memory: in a container /dev/shm must hold maintenance_work_mem (`--shm-size`); where it does not, freshvec builds again with one process.',
          ]
        : []),
    ],
  };
}
