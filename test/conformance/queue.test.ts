import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { openPglite } from '../../src/db/pglite.js';
import { openQueue, type QueueOptions } from '../../src/queue/open.js';
import type { DrainJob, MaintenanceService, Queue } from '../../src/queue/port.js';
import { freshDatabase } from '../support/database.js';
import { eventually } from '../support/eventually.js';
import { redisDatabase } from '../support/redisDatabase.js';

interface Place {
  /** For each queue that the tests open; on PGlite they share the database, as there is only one. */
  readonly options: QueueOptions;
  drop(): Promise<void>;
}

const places: Record<string, () => Promise<Place>> = {
  async redis() {
    const redis = await redisDatabase();
    return { options: { backend: 'redis', redisUrl: redis.url }, drop: () => redis.drop() };
  },
  async postgres() {
    const database = await freshDatabase();
    return { options: { backend: 'postgres', url: database.url }, drop: () => database.drop() };
  },
  async pglite() {
    const db = await openPglite({});
    return { options: { backend: 'pglite', db }, drop: () => db.close() };
  },
};

/** Handlers under the test's control: each drain that begins is listed, and ends when it is let go. */
class Drains {
  readonly begun: DrainJob[] = [];
  readonly #gates: (() => void)[] = [];
  #open = false;
  readonly drain = async (job: DrainJob): Promise<void> => {
    this.begun.push(job);
    if (!this.#open) await new Promise<void>((resolve) => this.#gates.push(resolve));
  };
  letGo(): void {
    for (const gate of this.#gates.splice(0)) gate();
  }
  open(): void {
    this.#open = true;
    this.letGo();
  }
  async waitFor(count: number): Promise<void> {
    await eventually(() => this.begun.length >= count, { what: `drain number ${count}`, timeoutMs: 20_000 });
  }
}

describe.each(Object.entries(places))('the queue on %s', (kind, make) => {
  let place: Place;
  let queue: Queue;
  let errors: Error[];
  const open = () => openQueue(place.options, { onError: (error) => errors.push(error) });
  beforeAll(async () => {
    place = await make();
  });
  afterAll(() => place.drop());
  beforeEach(async () => {
    errors = [];
    queue = await open();
  });
  afterEach(async () => {
    await queue.close();
    expect(errors).toEqual([]);
  });

  test('says which backend it is', () => {
    expect(queue.backend).toBe(kind);
  });

  test('a wake reaches the handler with its job', async () => {
    const drains = new Drains();
    drains.open();
    await queue.work(drains, { concurrency: 1 });
    expect(await queue.wake({ spaceId: 7, slot: 2 })).toBe(true);
    await drains.waitFor(1);
    expect(drains.begun).toEqual([{ spaceId: 7, slot: 2 }]);
  });

  test('a wake from before anybody worked is kept', async () => {
    const other = await open();
    expect(await other.wake({ spaceId: 1, slot: 0 })).toBe(true);
    await other.close();
    const drains = new Drains();
    drains.open();
    await queue.work(drains, { concurrency: 1 });
    await drains.waitFor(1);
    expect(drains.begun).toEqual([{ spaceId: 1, slot: 0 }]);
  });

  test('many wakes of one slot while nobody works are one job', async () => {
    for (let i = 0; i < 5; i++) expect(await queue.wake({ spaceId: 1, slot: 0 })).toBe(true);
    const drains = new Drains();
    drains.open();
    await queue.work(drains, { concurrency: 4 });
    await drains.waitFor(1);
    await queue.wake({ spaceId: 2, slot: 0 });
    await drains.waitFor(2);
    expect(drains.begun).toEqual([
      { spaceId: 1, slot: 0 },
      { spaceId: 2, slot: 0 },
    ]);
  });

  test('wakes during the drain run it once more afterwards, not beside it', async () => {
    const drains = new Drains();
    await queue.work(drains, { concurrency: 4 });
    await queue.wake({ spaceId: 1, slot: 0 });
    await drains.waitFor(1);
    for (let i = 0; i < 3; i++) expect(await queue.wake({ spaceId: 1, slot: 0 })).toBe(true);
    await queue.wake({ spaceId: 2, slot: 0 });
    await drains.waitFor(2);
    expect(drains.begun.map(({ spaceId }) => spaceId)).toEqual([1, 2]);
    drains.letGo();
    await drains.waitFor(3);
    drains.open();
    await queue.wake({ spaceId: 3, slot: 0 });
    await drains.waitFor(4);
    expect(drains.begun.map(({ spaceId }) => spaceId)).toEqual([1, 2, 1, 3]);
  });

  test('slots of one space drain beside one another, up to the concurrency', async () => {
    const drains = new Drains();
    await queue.work(drains, { concurrency: 3 });
    for (const slot of [0, 1, 2, 3]) await queue.wake({ spaceId: 1, slot });
    await drains.waitFor(3);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(drains.begun.map(({ slot }) => slot).sort()).toEqual([0, 1, 2]);
    drains.open();
    await drains.waitFor(4);
  });

  test('a handler that throws is reported, and its slot can be woken again', async () => {
    let calls = 0;
    const drain = async () => {
      calls++;
      throw new Error(`drain ${calls} failed`);
    };
    await queue.work({ drain }, { concurrency: 1 });
    await queue.wake({ spaceId: 1, slot: 0 });
    await eventually(() => errors.length === 1, { what: 'the report' });
    await eventually(async () => {
      await queue.wake({ spaceId: 1, slot: 0 });
      return calls >= 2;
    });
    expect(errors.splice(0)[0]?.message).toBe('drain 1 failed');
  });

  test('schedules fire, again and again, and end when they are taken away', async () => {
    const ran: MaintenanceService[] = [];
    let atOnce = 0;
    const maintain = async (service: MaintenanceService) => {
      expect(++atOnce).toBe(1);
      ran.push(service);
      await new Promise((resolve) => setTimeout(resolve, 20));
      atOnce--;
    };
    await queue.work({ maintain }, { concurrency: 4 });
    for (let i = 0; i < 3; i++) await queue.schedule({ leaves: 500, sweep: 60_000 });
    const leaves = () => ran.filter((service) => service === 'leaves').length;
    await eventually(() => leaves() >= 3, { what: 'three runs', timeoutMs: 20_000 });
    expect(ran.filter((service) => service === 'sweep')).toHaveLength(1);
    await queue.schedule({});
    const after = leaves();
    await new Promise((resolve) => setTimeout(resolve, 1_600));
    expect(leaves()).toBeLessThanOrEqual(after + 1);
  });

  test('obliterate takes away what waits, what runs and the schedules; the queue can be used again', async () => {
    const drains = new Drains();
    const ran: MaintenanceService[] = [];
    const worker = await open();
    await worker.work(drains, { concurrency: 1 });
    await queue.schedule({ leaves: 700 });
    await queue.wake({ spaceId: 1, slot: 0 });
    await drains.waitFor(1);
    await queue.wake({ spaceId: 1, slot: 0 });
    await queue.wake({ spaceId: 2, slot: 0 });
    await queue.obliterate();
    drains.open();
    await worker.close();
    errors = errors.filter(({ message }) => !message.includes('Missing key for job')); // the one that ran
    const heir = new Drains();
    heir.open();
    await queue.work({ drain: heir.drain, maintain: async (service) => void ran.push(service) }, { concurrency: 1 });
    await queue.wake({ spaceId: 1, slot: 0 });
    await heir.waitFor(1);
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    expect([heir.begun, ran]).toEqual([[{ spaceId: 1, slot: 0 }], []]);
    await queue.obliterate();
    await queue.obliterate();
  });

  test('close shows the handlers its signal, waits for them, and takes nothing more', async () => {
    const seen: string[] = [];
    const drain = (_: DrainJob, signal: AbortSignal) =>
      new Promise<void>((resolve) => {
        seen.push('begun');
        signal.addEventListener('abort', () => {
          seen.push('told');
          setTimeout(() => resolve(void seen.push('ended')), 100);
        });
      });
    await queue.work({ drain }, { concurrency: 1 });
    await queue.wake({ spaceId: 1, slot: 0 });
    await eventually(() => seen.length === 1);
    await queue.wake({ spaceId: 2, slot: 0 });
    await queue.close();
    expect(seen).toEqual(['begun', 'told', 'ended']);
    expect(await queue.wake({ spaceId: 1, slot: 0 })).toBe(false);
    const heir = await open();
    const drains = new Drains();
    drains.open();
    await heir.work(drains, { concurrency: 1 });
    await drains.waitFor(1);
    expect(drains.begun).toContainEqual({ spaceId: 2, slot: 0 });
    await heir.close();
  });

  test('a wake is handled within milliseconds', async () => {
    const drains = new Drains();
    drains.open();
    await queue.work(drains, { concurrency: 2 });
    const times: number[] = [];
    for (let i = 0; i < 100; i++) {
      const start = performance.now();
      await queue.wake({ spaceId: i, slot: 0 });
      await eventually(() => drains.begun.some(({ spaceId }) => spaceId === i), { intervalMs: 0 });
      times.push(performance.now() - start);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    times.sort((a, b) => a - b);
    expect(times[50]).toBeLessThan(100);
  });
});
