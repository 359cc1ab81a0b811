import './provided.js';
import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import { inject } from 'vitest';
import { eventually } from './eventually.js';

export interface TestRedis {
  /** With the database's number as its path. */
  readonly url: string;
  readonly db: number;
  /** Empties it and gives the number back; fails, after that, when a connection to it was still open. */
  drop(): Promise<void>;
}

/** Longer than any run; a number taken by a killed run comes back by itself. */
const LOCK_SECONDS = 3_600;

/** An empty database of the run's Redis, not shared with any other test file. Database 0 holds who took which. */
export async function redisDatabase(): Promise<TestRedis> {
  const serverUrl = inject('redisUrl');
  const token = randomUUID();
  const db = await asAdmin(serverUrl, (admin) => takeNumber(admin, serverUrl, token));
  const url = numberedUrl(serverUrl, db);
  const drop = () =>
    asAdmin(serverUrl, async (admin) => {
      try {
        await assertNobodyConnected(admin, db);
      } finally {
        await asAdmin(url, (own) => own.flushdb());
        await admin.del(lockKey(db));
      }
    });
  return { url, db, drop };
}

async function takeNumber(admin: Redis, serverUrl: string, token: string): Promise<number> {
  const [, databases] = await admin.config('GET', 'databases').then(
    (answer) => answer as string[],
    // Managed servers refuse CONFIG; 16 is what Redis has unless told.
    () => ['databases', '16'],
  );
  for (let db = 1; db < Number(databases); db++) {
    if ((await admin.set(lockKey(db), token, 'EX', LOCK_SECONDS, 'NX')) !== 'OK') continue;
    // A server that was given to us may hold somebody's data: such a number is left alone.
    const size = await asAdmin(numberedUrl(serverUrl, db), (own) => own.dbsize());
    if (size === 0) return db;
    await admin.del(lockKey(db));
  }
  throw new Error('Every Redis database is taken or holds data');
}

async function assertNobodyConnected(admin: Redis, db: number): Promise<void> {
  let left: string[] = [];
  const nobody = async () => {
    const clients = String(await admin.client('LIST')).split('\n');
    left = clients.filter((line) => line.includes(` db=${db} `));
    return left.length === 0;
  };
  await eventually(nobody, { timeoutMs: 2_000, intervalMs: 20 }).catch(() => {
    throw new Error(`Leaked: ${left.length} connections to Redis database ${db} are still open\n${left.join('\n')}`);
  });
}

async function asAdmin<T>(url: string, fn: (redis: Redis) => Promise<T>): Promise<T> {
  const redis = new Redis(url, { lazyConnect: true });
  try {
    await redis.connect();
    return await fn(redis);
  } finally {
    redis.disconnect();
  }
}

function numberedUrl(serverUrl: string, db: number): string {
  const url = new URL(serverUrl);
  url.pathname = `/${db}`;
  return url.href;
}

function lockKey(db: number): string {
  return `freshvec-test:database:${db}`;
}
