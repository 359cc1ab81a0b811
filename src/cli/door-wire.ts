import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';

/** What both sides of the door speak: JSON, one value a line. The caller begins, with a request. */
export const versionSchema = z.object({ version: z.string() });

export const requestSchema = versionSchema.extend({
  argv: z.array(z.string()),
  cwd: z.string(),
  isTTY: z.boolean(),
});

/** From the caller, later. */
export const callerSchema = z
  .object({
    /** What the person types; null when there is nothing more. */
    typed: z.string().nullable(),
    stop: z.literal(true),
  })
  .partial();

/** From the process that has the database open. */
export const ownerSchema = z
  .object({
    /** Instead of anything else: the command is not run. */
    refused: z.object({ code: z.string(), message: z.string() }),
    /** From here on the command may have changed something. */
    begun: z.literal(true),
    out: z.string(),
    err: z.string(),
    /** The command waits for what is typed. */
    asks: z.literal(true),
    /** The command can be told to stop. */
    heeds: z.literal(true),
    /** The last one. */
    exit: z.literal([0, 1, 2, 3]),
  })
  .partial();

export type ToOwner = z.infer<typeof requestSchema> | z.infer<typeof callerSchema>;
export type ToCaller = z.infer<typeof ownerSchema>;

export function send(socket: Socket, value: ToOwner | ToCaller): void {
  if (socket.writable) socket.write(`${JSON.stringify(value)}\n`);
}

/** Not `readline`, which also breaks lines at U+2028, as JSON does not. What cannot be read ends the connection. */
export function receive(socket: Socket, take: (value: unknown) => void): void {
  let rest = '';
  socket.setEncoding('utf8').on('data', (chunk: string) => {
    const end = chunk.lastIndexOf('\n');
    const lines = end < 0 ? [] : (rest + chunk.slice(0, end)).split('\n');
    rest = end < 0 ? rest + chunk : chunk.slice(end + 1);
    try {
      for (const line of lines) take(JSON.parse(line));
    } catch (error) {
      socket.destroy(error instanceof Error ? error : undefined);
    }
  });
}

/** Bytes of the longest path that a socket can have everywhere: 103 on macOS, 107 on Linux (unix(7), sun_path). */
const LONGEST_PATH = 100;

/** Where the owner of an embedded database listens: beside it, or under a short name if that path is too long. */
export function doorPath(dataDir: string): string {
  const directory = realpathSync(dataDir);
  const beside = `${directory}.sock`;
  if (Buffer.byteLength(beside) <= LONGEST_PATH) return beside;
  const name = createHash('sha256').update(directory).digest('hex').slice(0, 16);
  return join(tmpdir(), `freshvec-${name}.sock`);
}
