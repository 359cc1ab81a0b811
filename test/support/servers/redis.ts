import { Redis } from 'ioredis';
import { dockerAnswers, dockerEngine } from './dockerEngine.js';
import type { Engine } from './engine.js';
import { beginAndWait, startOnFreePort } from './start.js';
import { ensureTree, type Tree } from './tree.js';
import { treeEngine } from './treeEngine.js';

export type RedisSettings = Readonly<Record<string, string | number>>;

export interface RedisOptions {
  /** redis.conf settings over the defaults. */
  readonly settings?: RedisSettings;
}

export interface RedisServer {
  /** Database 0. Stays the same over restarts. */
  readonly url: string;
  readonly port: number;
  /** Undefined while it is down. */
  readonly pid: number | undefined;
  /** SIGKILL; all its data is lost, the port stays for `up`. */
  kill(): Promise<void>;
  up(): Promise<void>;
  /** Ends it, unless it is down, and begins it again, empty. */
  restart(): Promise<void>;
  /** Ends it for good. */
  stop(): Promise<void>;
}

const IMAGE = 'redis:8';

const DEFAULTS: RedisSettings = {
  // What BullMQ needs.
  'maxmemory-policy': 'noeviction',
  save: '',
  appendonly: 'no',
  // A database per test file, with room for files that want several.
  databases: 64,
};

/** A private Redis without persistence, on 127.0.0.1 and a free port. */
export async function startRedis({ settings = {} }: RedisOptions = {}): Promise<RedisServer> {
  const all = { ...DEFAULTS, ...settings };
  const make = (await dockerAnswers()) ? dockerRedis : treeRedis(await ensureTree());
  const { engine, port } = await startOnFreePort((candidate) => make(candidate, all), answers);
  const kill = () => engine.end('SIGKILL');
  const up = () => beginAndWait(engine, () => answers(port));
  return {
    url: `redis://127.0.0.1:${port}/0`,
    port,
    get pid() {
      return engine.pid;
    },
    kill,
    up,
    async restart() {
      await engine.end('SIGTERM');
      await up();
    },
    async stop() {
      await kill();
      await engine.remove();
    },
  };
}

type MakeRedis = (port: number, settings: RedisSettings) => Promise<Engine>;

function treeRedis(tree: Tree): MakeRedis {
  return (port, settings) =>
    treeEngine({
      tree,
      user: 'redis',
      deathSignal: 'TERM',
      command: (home) => [
        '/usr/bin/redis-server',
        ...asArguments({ bind: '127.0.0.1', port, dir: home, daemonize: 'no', ...settings }),
      ],
    });
}

const dockerRedis: MakeRedis = (port, settings) =>
  dockerEngine({ image: IMAGE, port, containerPort: 6379, command: ['redis-server', ...asArguments(settings)] });

function asArguments(settings: RedisSettings): string[] {
  return Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)]);
}

async function answers(port: number): Promise<void> {
  const client = new Redis({ host: '127.0.0.1', port, lazyConnect: true, retryStrategy: () => null });
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.ping();
  } finally {
    client.disconnect();
  }
}
