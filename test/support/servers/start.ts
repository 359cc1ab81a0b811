import { createServer } from 'node:net';
import { eventually } from '../eventually.js';
import type { Engine } from './engine.js';

const START_TIMEOUT_MS = 60_000;
const PORT_TRIES = 3;

/** Makes a server on a free port and waits until it answers; another port when somebody took it in between. */
export async function startOnFreePort(
  make: (port: number) => Promise<Engine>,
  answers: (port: number) => Promise<void>,
): Promise<{ engine: Engine; port: number }> {
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const engine = await make(port);
    try {
      await beginAndWait(engine, () => answers(port));
      return { engine, port };
    } catch (error) {
      await engine.end('SIGKILL');
      await engine.remove();
      if (attempt === PORT_TRIES || !/in use|already allocated/i.test(String(error))) throw error;
    }
  }
}

export async function beginAndWait(engine: Engine, answers: () => Promise<void>): Promise<void> {
  await engine.begin();
  let down = false;
  await eventually(
    async () => {
      down = engine.pid === undefined;
      if (down) return true;
      await answers();
      return true;
    },
    { timeoutMs: START_TIMEOUT_MS, intervalMs: 20, what: 'the start of the server' },
  ).catch(async (error: unknown) => {
    throw new Error(`${String(error)}\n${await engine.logTail()}`, { cause: error });
  });
  if (down) throw new Error(`The server ended while it started:\n${await engine.logTail()}`);
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', resolve);
  });
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('No free port');
  return address.port;
}
