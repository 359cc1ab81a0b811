/**
 * Read this first: how a stale row gets its vector, stage by stage.
 *
 *   app INSERT/UPDATE ─► triggers ─► freshvec.change      capture/   (in the app's own transaction)
 *   doorbell or poll  ─► job "drain space S"              queue/, worker/doorbell.ts
 *   drain (below)     ─► claim → read → embed → write and settle, until nothing is left to claim
 *   search            ─► one statement that checks the pointer's epoch                       search/
 *
 * No transaction is open while the provider is asked. A vector is written only if the row's text still has the hash
 * that it was made from, under a lease that is still ours. The next batch is claimed and embedded while the last one is
 * being written.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { LEASE_SECONDS } from './claim/lease.js';
import { endUnflushed } from './claim/settle.js';
import { classify } from './db/errors.js';
import { claimNext } from './stages/claim-next.js';
import type { DrainContext } from './stages/context.js';
import { embedTexts } from './stages/embed-texts.js';
import type { EmbeddedTexts } from './stages/embedded-texts.js';
import type { Parked } from './stages/parked.js';
import { readTexts } from './stages/read-texts.js';
import { writeVectors } from './stages/write-vectors.js';

/**
 * How often rows that the app holds are asked for again, in ms: first and whenever some were free, and at most; claims go
 * on at `look` meanwhile.
 */
const LOCKED_RETRY_MS = { first: 25, most: 1000, look: 50 };

/** How long vectors are kept while every try loses the connection, in ms: after that somebody else may have claimed the keys. */
const KEEP_FAILING_MS = LEASE_SECONDS * 1000;

/** Share of a batch from which on a claim counts as full. */
const FULL = 0.9;

/** Told of every token that the drain takes and gives up, so that its leases are renewed meanwhile. */
export interface LeaseWatch {
  hold(token: string): void;
  drop(token: string): void;
  /** Told of one that could not be given back: the database was away. */
  owe(spaceId: number, token: string): void;
}

/**
 * Works a space off until there is nothing left to claim, the context's `stop` is raised, or the provider asks for a
 * pause (resolves to its ms). What it still holds when it fails is given back; vectors that are paid for and could not be
 * written, for the app's locks or a lost connection, stay parked in the context, under their lease, for the next drain.
 */
export async function drain(context: DrainContext, leases: LeaseWatch): Promise<{ coolDownMs: number | undefined }> {
  const { parked } = context;
  const held = new Set<string>();
  let writing: Promise<void> = Promise.resolve();
  let lookAgain = false;
  let coolDownMs: number | undefined;
  try {
    let retryMs = LOCKED_RETRY_MS.first;
    let retryAt = 0;
    while (!context.stop.aborted && coolDownMs === undefined) {
      if (parked.length > 0 && performance.now() >= retryAt) {
        await writing;
        retryMs = (await retryParked()) ? LOCKED_RETRY_MS.first : Math.min(retryMs * 2, LOCKED_RETRY_MS.most);
        retryAt = performance.now() + retryMs;
      }
      const token = randomUUID();
      // Held before it is known: of a claim that fails half-way, or whose answer is lost, some keys may be leased.
      hold(token);
      const claim = await claimNext(context, token);
      if (!claim?.keys.length) drop(token);
      if (claim?.keys.length === 0) {
        // Pages were visited, and vectors perhaps taken over as they are.
        lookAgain = true;
        continue;
      }
      if (claim) {
        context.report.claimed += claim.keys.length;
        // A provider that is elsewhere works while the database rests.
        const alone = context.model.account === undefined;
        const ended = claim.priority === 'load' ? context.load.begin({ alone }) : () => {};
        const isFull = claim.keys.length >= context.batchKeys * FULL;
        if (isFull && (claim.priority !== 'load' || context.load.isFree())) context.moreThanOne(claim.priority);
        let batch: EmbeddedTexts;
        try {
          batch = await embedTexts(context, await readTexts(context, claim));
          coolDownMs = batch.coolDownMs;
          await writing.catch((error: unknown) => {
            if (classify(error) === 'connection') park({ ...batch, unflushed: true, failingSince: performance.now() });
            throw error;
          });
        } catch (error) {
          ended();
          throw error;
        }
        writing = write(batch)
          .then(() => {})
          .finally(ended);
        writing.catch(() => {}); // Seen where it is awaited.
        lookAgain = true;
        // A claim that was not full leaves little to do meanwhile; the write goes faster alone.
        if (!isFull) await writing;
        continue;
      }
      await writing;
      if (parked.length > 0) {
        await sleep(Math.min(retryMs, LOCKED_RETRY_MS.look), undefined, { signal: context.stop }).catch(() => {});
        continue;
      }
      // The last write may have put keys back that changed meanwhile.
      if (!lookAgain) break;
      lookAgain = false;
    }
    await writing;
    return { coolDownMs };
  } finally {
    await writing.catch(() => {});
    await giveBack(context, held, leases);
  }

  function hold(token: string): void {
    held.add(token);
    leases.hold(token);
  }

  function drop(token: string): void {
    held.delete(token);
    leases.drop(token);
  }

  /** Keeps what is paid for, unless it has waited for too long. */
  function park({ token, priority, losses, items, unflushed, failingSince }: Parked): void {
    const keeps = failingSince === undefined || performance.now() - failingSince < KEEP_FAILING_MS;
    if (items.length === 0 || !keeps) return;
    held.delete(token);
    parked.push({ token, priority, losses, items, unflushed, failingSince });
  }

  /** Resolves to how many rows it had to park. */
  async function write(batch: EmbeddedTexts & Partial<Parked>): Promise<number> {
    const { token } = batch;
    const rest = await writeVectors(context, batch);
    park(rest);
    if ('error' in rest) throw rest.error;
    if (rest.items.length === 0) {
      if (rest.unflushed) await endUnflushed(context.db, context.store.space.id, token);
      drop(token);
    }
    return rest.items.length;
  }

  /** Resolves to whether some of the rows were free, or another slot has taken them all. */
  async function retryParked(): Promise<boolean> {
    const taken = parked.splice(0);
    let free = taken.length === 0;
    try {
      for (let rest = taken.shift(); rest; rest = taken.shift()) {
        held.add(rest.token);
        const batch = { confirm: [], remove: [], refused: [], endings: [], coolDownMs: undefined };
        if ((await write({ ...rest, ...batch })) < rest.items.length) free = true;
      }
    } finally {
      parked.push(...taken);
    }
    return free;
  }
}

/** Gives every lease back that could not be ended; where the database is out of reach that is done later, or they expire. */
export async function giveBack(
  { db, store }: Pick<DrainContext, 'db' | 'store'>,
  tokens: Iterable<string>,
  leases: LeaseWatch,
): Promise<void> {
  const end = async (token: string) => {
    leases.drop(token);
    // Of what it holds, some may have been written along with another space, and not waited for the disk.
    await endUnflushed(db, store.space.id, token).catch(() => leases.owe(store.space.id, token));
  };
  await Promise.all([...tokens].map(end));
}
