import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { Readable, Writable } from 'node:stream';
import type { z } from 'zod';
import type { Connection } from '../client/connection.js';
import type { Service } from '../client/serve.js';
import type { Log } from '../observe/log.js';
import { callerSchema, doorPath, receive, requestSchema, send, versionSchema } from './door-wire.js';
import type { CliIo, Run } from './io.js';
import { packageVersion } from './version.js';

export interface DoorOptions {
  /** What every command that comes in works on. */
  readonly connection: Connection;
  readonly dataDir: string;
  readonly run: Run;
  readonly log: Log;
}

/** A command that came in. */
interface Guest {
  hear(value: unknown): void;
  /** The caller is gone, or we must end. */
  leave(): void;
  readonly done: Promise<unknown>;
}

/**
 * Lets other processes' commands in to the embedded database, which only this process can have open: a Unix socket
 * that only this user can use. Where that cannot be made the process goes on without; the others are then refused.
 */
export async function openDoor(options: DoorOptions): Promise<Service> {
  const guests = new Map<Socket, Guest | undefined>();
  let stopping = false;
  const server = createServer((socket) => {
    guests.set(socket, undefined);
    socket.on('error', () => {}); // 'close' follows
    socket.once('close', () => {
      guests.get(socket)?.leave();
      guests.delete(socket);
    });
    receive(socket, (value) => {
      const guest = guests.get(socket);
      if (guest) guest.hear(value);
      else if (!stopping) guests.set(socket, admit(socket, value, options));
    });
  });
  const warn = (err: unknown) => options.log.warn({ err }, 'commands of other processes cannot come in');
  await listen(server, doorPath(options.dataDir)).catch(warn);
  server.on('error', warn);
  return {
    async stop() {
      stopping = true;
      server.close();
      for (const guest of guests.values()) guest?.leave();
      await Promise.all([...guests.values()].map((guest) => guest?.done));
      for (const socket of guests.keys()) socket.end();
    },
  };
}

/** A socket that is there is a dead process's: we hold the lock of the directory. */
async function listen(server: Server, path: string): Promise<void> {
  rmSync(path, { force: true });
  const before = process.umask(0o177); // It is bound before `listen` returns, so it never is open to others.
  try {
    server.listen(path);
  } finally {
    process.umask(before);
  }
  await once(server, 'listening');
}

function admit(socket: Socket, value: unknown, { connection, run, log }: DoorOptions): Guest | undefined {
  const { version } = versionSchema.parse(value);
  const own = packageVersion();
  if (version !== own) {
    const message =
      `The embedded database is open in process ${process.pid}, which runs freshvec ${own}; this is ${version}. ` +
      'Restart that process, so that both are the same.';
    send(socket, { refused: { code: 'version_mismatch', message } });
    socket.end();
    return undefined;
  }
  const request = requestSchema.parse(value);
  log.debug({ command: request.argv[0] }, 'a command of another process');
  const stop = new AbortController();
  const stdin = new Readable({ read: () => send(socket, { asks: true }) });
  send(socket, { begun: true });
  const done = run(request.argv, guestIo(socket, request, stdin, stop.signal, connection)).then((exit) => {
    send(socket, { exit });
    socket.end();
  });
  let over = false;
  const type = (text: string | null) => {
    if (!over) stdin.push(text);
    over ||= text === null;
  };
  return {
    done,
    hear(later) {
      const { typed, stop: told } = callerSchema.parse(later);
      if (typed !== undefined) type(typed);
      if (told) stop.abort();
    },
    leave() {
      type(null);
      stop.abort();
    },
  };
}

function guestIo(
  socket: Socket,
  { cwd, isTTY }: z.infer<typeof requestSchema>,
  stdin: Readable,
  signal: AbortSignal,
  connection: Connection,
): CliIo {
  const stderr = new Writable({
    decodeStrings: false,
    write(chunk, _encoding, done) {
      send(socket, { err: String(chunk) });
      done();
    },
  });
  return {
    stdout: { write: (text) => send(socket, { out: text }) },
    stderr,
    stdin,
    env: {},
    cwd,
    isTTY,
    connection,
    stopSignal() {
      send(socket, { heeds: true });
      return signal;
    },
  };
}
