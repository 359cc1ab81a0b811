import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Database } from '../db/database.js';
import type { PointerCache } from './pointer-cache.js';
import type { SearchTarget } from './target.js';

/** How often a process renews its word, in ms; the server forgets it after three times as long. */
const RENEW_MS = 30_000;
/** What closing may wait for the server to forget this process, in ms. */
const FORGET_MS = 1_000;

export interface AnnouncerOptions {
  /** Dropped where a renewal finds another epoch, so that a process that does not search moves on by itself. */
  readonly pointers: PointerCache;
  readonly renewMs?: number;
}

/** Tells the database which epoch this process searches with, so that an old space is not dropped under it. */
export interface Announcer {
  /** After a search that was answered with this target. Returns at once; writes only what the server does not know. */
  searched(db: Database, target: SearchTarget): void;
  /** Renews its word now, and moves on to the present epochs; resolves when that is done. */
  renew(): Promise<void>;
  /** Takes its word back. Waits a second for that at most. */
  close(): Promise<void>;
}

interface Said {
  readonly db: Database;
  readonly sourceName: string;
  epoch: number;
}

/**
 * One for each client. A search is never held up, nor failed, by what is said here: on a read-only replica, without a
 * privilege or with the database away nothing is said, and `complete` does not know of this process. Its searches stay
 * right all the same: every one of them checks the pointer itself.
 */
export function createAnnouncer({ pointers, renewMs = RENEW_MS }: AnnouncerOptions): Announcer {
  const id = randomUUID();
  const said = new Map<number, Said>();
  const underWay = new Set<Promise<void>>();
  let renewal: NodeJS.Timeout | undefined;
  let renewing: Promise<void> | undefined;
  let closed = false;

  /** Resolves to the present epoch: undefined where it could not be had, null where nothing is live. */
  async function announce(sourceId: number, { db, epoch }: Said): Promise<number | null | undefined> {
    try {
      const [row] = await db.query<{ present: number | null }>(
        `SELECT freshvec.announce_reader($1::uuid, $2::int, $3::bigint,
           $4::text || COALESCE(' ' || NULLIF(current_setting('application_name'), ''), '')) AS present`,
        [id, sourceId, epoch, `${hostname()}:${process.pid}`],
      );
      return row?.present ?? null;
    } catch {
      return undefined; // Said again with the next renewal.
    }
  }

  async function renewOne(sourceId: number, one: Said): Promise<void> {
    const present = await announce(sourceId, one);
    if (present === undefined) return;
    if (present === null) {
      said.delete(sourceId);
      pointers.delete(one.sourceName);
      return;
    }
    if (present <= one.epoch) return;
    // The next search reads the pointer anew; one that is under way does so in its own statement.
    if ((pointers.get(one.sourceName)?.epoch ?? present) < present) pointers.delete(one.sourceName);
    one.epoch = present;
    await announce(sourceId, one);
  }

  function track(work: Promise<void>): Promise<void> {
    underWay.add(work);
    return work.finally(() => underWay.delete(work));
  }

  async function renewAll(): Promise<void> {
    for (const [sourceId, one] of [...said]) if (!closed) await renewOne(sourceId, one);
  }

  function renew(): Promise<void> {
    renewing ??= track(renewAll()).finally(() => {
      renewing = undefined;
    });
    return renewing;
  }

  return {
    searched(db, { source, epoch }) {
      const known = said.get(source.id);
      // Of two searches at once the one that began earlier may end later: epochs only grow.
      if (closed || (known && known.epoch >= epoch)) return;
      const one: Said = { db, sourceName: source.name, epoch };
      said.set(source.id, one);
      void track(announce(source.id, one).then(() => {}));
      if (renewal !== undefined) return;
      renewal = setInterval(() => void renew(), renewMs);
      renewal.unref();
    },
    renew,
    async close() {
      if (closed) return;
      closed = true;
      clearInterval(renewal);
      const [first] = said.values();
      if (!first) return;
      const forget = async () => {
        await Promise.all(underWay);
        await first.db.query('SELECT freshvec.forget_reader($1::uuid)', [id]);
      };
      await atMost(
        FORGET_MS,
        forget().catch(() => {}),
      ); // Forgotten by itself after 90 s.
    },
  };
}

async function atMost(ms: number, work: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}
