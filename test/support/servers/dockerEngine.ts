import { spawnSync } from 'node:child_process';
import { eventually } from '../eventually.js';
import { atExit } from './cleanup.js';
import { output, succeeds } from './command.js';
import type { Engine } from './engine.js';

export interface DockerServer {
  readonly image: string;
  /** Port on 127.0.0.1; kept when the container is begun again. */
  readonly port: number;
  /** Not published, but the machine's own port: for a server that must reach others there. */
  readonly containerPort: number | 'host';
  readonly env?: Readonly<Record<string, string>>;
  readonly command: readonly string[];
}

/** A client alone proves nothing: the engine must answer, soon, and know compose. */
export async function dockerAnswers(): Promise<boolean> {
  return (await succeeds('docker', ['info'], 5_000)) && (await succeeds('docker', ['compose', 'version'], 5_000));
}

export async function dockerEngine(server: DockerServer): Promise<Engine> {
  const env = Object.entries(server.env ?? {}).flatMap(([key, value]) => ['--env', `${key}=${value}`]);
  const { port, containerPort } = server;
  const network =
    containerPort === 'host' ? ['--network', 'host'] : ['--publish', `127.0.0.1:${port}:${containerPort}`];
  const create = ['create', ...network, '--shm-size=512m', ...env, server.image, ...server.command];
  const id = (await output('docker', create)).trim();
  const forget = atExit(() => spawnSync('docker', ['rm', '--force', '--volumes', id], { timeout: 20_000 }));
  const statePid = async () => Number(await output('docker', ['inspect', '--format', '{{.State.Pid}}', id]));
  let pid: number | undefined;
  return {
    get pid() {
      return pid;
    },
    async begin() {
      await output('docker', ['start', id]);
      pid = (await statePid()) || undefined;
    },
    async end(signal) {
      if (pid === undefined) return;
      await output('docker', ['kill', '--signal', signal, id]);
      const down = async () => (await statePid()) === 0;
      await eventually(down, { timeoutMs: 60_000, intervalMs: 50, what: `the end of ${server.image} by ${signal}` });
      pid = undefined;
    },
    async logTail() {
      return (await output('docker', ['logs', '--tail', '30', id]).catch(() => '')).slice(-2000);
    },
    async remove() {
      await output('docker', ['rm', '--force', '--volumes', id]);
      forget();
    },
  };
}
