import pg from 'pg';
import { dockerAnswers } from './servers/dockerEngine.js';
import { BIN } from './servers/postgres.js';
import { ensureTree } from './servers/tree.js';
import { treeEngine } from './servers/treeEngine.js';

/**
 * An archive that receives a server's WAL and replays none: `pg_receivewal` with a slot of this name, which is its
 * application_name too. Undefined where servers run in containers.
 */
export async function startReceiver(primaryUrl: string, slot: string): Promise<{ stop(): Promise<void> } | undefined> {
  if (await dockerAnswers()) return undefined;
  const { hostname, port, username } = new URL(primaryUrl);
  const conninfo = `host=${hostname} port=${port} user=${username} application_name=${slot}`;
  const engine = await treeEngine({
    tree: await ensureTree(),
    user: 'postgres',
    deathSignal: 'TERM',
    prepare: (home) => ['/usr/bin/mkdir', `${home}/wal`],
    command: (home) => [
      `${BIN}/pg_receivewal`,
      ...[`--dbname=${conninfo}`, `--slot=${slot}`, `--directory=${home}/wal`, '--no-password'],
    ],
  });
  await engine.begin();
  return {
    async stop() {
      await engine.end('SIGINT');
      await engine.remove();
    },
  };
}

/** A reader of a logical slot that says once how far it has got, and no more, as some do for minutes. */
export async function startLogicalReader(url: string, slot: string): Promise<{ stop(): Promise<void> }> {
  const client = new pg.Client({ connectionString: url, application_name: slot, replication: 'database' } as object);
  client.on('error', () => {}); // It is ended in mid-stream.
  await client.connect();
  const { connection } = client as unknown as { connection: Wire };
  const position = new Promise<bigint>((resolve) => {
    // A keepalive: `k`, the end of WAL, the time, whether an answer is wanted.
    connection.on('copyData', ({ chunk }) => chunk[0] === 0x6b && resolve(chunk.readBigUInt64BE(1)));
  });
  client.query(`START_REPLICATION SLOT ${slot} LOGICAL 0/0`).catch(() => {});
  connection.sendCopyFromChunk(status(await position));
  return { stop: () => client.end() };
}

interface Wire {
  on(event: 'copyData', listener: (message: { chunk: Buffer }) => void): void;
  sendCopyFromChunk(chunk: Buffer): void;
}

/** `r`: written, flushed and applied up to there; the time; no answer wanted. */
function status(position: bigint): Buffer {
  const message = Buffer.alloc(34);
  message.write('r');
  for (const at of [1, 9, 17]) message.writeBigUInt64BE(position, at);
  return message;
}
