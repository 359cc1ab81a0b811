import { statfs } from 'node:fs/promises';
import type { PlanFact } from '../definition.js';
import type { Findings, PlanContext } from './context.js';

/** What the new vectors and their index take, what is needed on the way, and whether that much is free. */
export async function measureDisk({ db, to, sizes, indexServes, settings }: PlanContext): Promise<Findings> {
  const { disk, dead, index, toasted, vector } = sizes;
  const peak = disk + dead + index;
  const where = to.store === 'column' ? 'on the rows' : "in freshvec's own table";
  const facts: PlanFact[] = [
    {
      name: 'diskBytes',
      value: Math.round(disk),
      unit: 'bytes',
      note: `vectors of ${vector} bytes ${where}${toasted ? ', out of line (TOAST)' : ''}, by the page layout`,
    },
    ...(to.store === 'table'
      ? []
      : [
          {
            name: 'deadBytes' as const,
            value: Math.round(dead),
            unit: 'bytes' as const,
            note: 'old versions of the rows at most; vacuum makes their room free for new rows',
          },
        ]),
    {
      name: 'indexBytes',
      value: index,
      unit: 'bytes',
      note: indexServes
        ? 'the index that is on the adopted column serves as it is'
        : to.index.kind === 'none'
          ? 'no index: exact search'
          : `HNSW with m ${to.index.m}, by its page layout`,
    },
  ];
  const free = await freeBytes(db, settings.throttle);
  facts.push({
    name: 'peakBytes',
    value: Math.round(peak),
    unit: 'bytes',
    note: 'all of the above; the old vectors stay beside it until `complete`, and WAL comes on top',
  });
  facts.push({ name: 'freeBytes', value: free.bytes, unit: 'bytes', note: free.note });
  const short = free.bytes !== null && peak > free.bytes;
  return {
    facts,
    blockers: short
      ? [
          `it needs ${megabytes(peak)} of disk, and ${megabytes(free.bytes ?? 0)} are free (${free.note}): make room, raise that limit, or use \`--type halfvec\` or fewer dimensions.`,
        ]
      : [],
  };
}

/** SQL cannot tell how full a disk is: a path on this machine can, or a size that the database may grow to. */
async function freeBytes(
  db: PlanContext['db'],
  settings: PlanContext['settings']['throttle'],
): Promise<{ bytes: number | null; note: string }> {
  const { diskPath = null, diskUsedShare = 1, maxDatabaseBytes = null } = settings ?? {};
  if (diskPath !== null) {
    const { bsize, blocks, bfree, bavail } = await statfs(diskPath);
    const used = blocks - bfree;
    const share = Math.round(diskUsedShare * 100);
    return {
      bytes: Math.max(0, Math.floor(((used + bavail) * diskUsedShare - used) * bsize)),
      note: `until the disk of throttle.diskPath, ${diskPath}, is ${share} % full, where the throttle stops`,
    };
  }
  if (maxDatabaseBytes !== null) {
    const [row] = await db.query<{ bytes: number }>('SELECT pg_database_size(current_database())::float8 AS bytes');
    return {
      bytes: Math.max(0, maxDatabaseBytes - (row?.bytes ?? 0)),
      note: 'until throttle.maxDatabaseBytes, where the throttle stops',
    };
  }
  return {
    bytes: null,
    note: 'SQL cannot tell how full a disk is: set throttle.maxDatabaseBytes, or throttle.diskPath where the database is on this machine',
  };
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}
