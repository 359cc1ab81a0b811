import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { ident } from './identifiers.js';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

interface ListenOptions {
  /** A new connected client; rejects when there is none to be had. */
  connect(): Promise<pg.Client>;
  readonly channel: string;
  /** Payload of a notification; also called with '' after a reconnect, because something may have been missed. */
  onNotify(payload: string): void;
  onError(error: unknown): void;
}

/**
 * LISTEN on a connection of its own, made again whenever it is lost. Resolves, once the first LISTEN has succeeded, to
 * a function that stops it.
 */
export async function startListening(options: ListenOptions): Promise<() => Promise<void>> {
  const stopped = new AbortController();
  let current = await subscribe(options);

  const keepUp = (async () => {
    while (!stopped.signal.aborted) {
      const error = await Promise.race([current.lost, aborted(stopped.signal)]);
      if (stopped.signal.aborted) return;
      options.onError(error);
      const next = await resubscribe(options, stopped.signal);
      if (next === undefined) return;
      current = next;
      options.onNotify('');
    }
  })();

  return async () => {
    stopped.abort();
    await keepUp;
    await current.end();
  };
}

interface Subscription {
  /** Resolves to the reason when the connection is gone. */
  readonly lost: Promise<unknown>;
  end(): Promise<void>;
}

async function subscribe({ connect, channel, onNotify }: ListenOptions): Promise<Subscription> {
  const client = await connect();
  const end = () => client.end().catch(() => undefined);
  const lost = new Promise<unknown>((resolve) => {
    client.on('error', resolve);
    client.on('end', () => resolve(new Error(`The connection that listens on ${channel} was closed.`)));
  });
  client.on('notification', (message) => {
    if (message.channel === channel) onNotify(message.payload ?? '');
  });
  try {
    await client.query(`LISTEN ${ident(channel)}`);
  } catch (error) {
    await end();
    throw error;
  }
  return { lost, end };
}

async function resubscribe(options: ListenOptions, signal: AbortSignal): Promise<Subscription | undefined> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return undefined;
    try {
      const subscription = await subscribe(options);
      if (!signal.aborted) return subscription;
      await subscription.end();
      return undefined;
    } catch (error) {
      options.onError(error);
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
