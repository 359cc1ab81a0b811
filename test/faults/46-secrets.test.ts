import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createClient } from '../../src/index.js';
import { eventually } from '../support/eventually.js';
import { type RedisServer, startRedis } from '../support/servers.js';
import type { Fault } from '../support/standin/faults.js';
import type { FaultyProvider } from './support/faulty.js';
import { type System, TIMEOUT_MS, withFaultyProvider } from './support/system.js';
import type { WorkerProcess } from './support/workers.js';

/** Each is in a place where a URL, a key or a text goes; none may come out anywhere. */
const SECRET = {
  database: 'pw-database-4f1e',
  redis: 'pw-redis-93ab',
  baseUrl: 'pw-baseurl-77c2',
  query: 'query-secret-0d5e',
  apiKey: 'sk-proj-c0ffee4f1e93ab77c20d5e',
} as const;
/** In texts, queries and keys. */
const MARKER = 'marker-b7d1';
/** The stand-in refuses texts with this, and quotes them. */
const POISON = `poison ${MARKER}`;

let redis: RedisServer;
let admin: Redis;
beforeAll(async () => {
  redis = await startRedis();
  admin = new Redis(redis.url);
  await admin.config('SET', 'requirepass', SECRET.redis);
});
afterAll(async () => {
  admin.disconnect();
  await redis.stop();
});

/** What a provider may answer with, or do, that is only an outage: work goes on after each. */
const OUTAGES: readonly Fault[] = [
  { kind: 'rate_limited', retryAfterMs: 100 },
  { kind: 'server_error' },
  { kind: 'reset' },
  { kind: 'not_json' },
  { kind: 'null' },
];

test('fault 46: every error path provoked with a secret in the URL and a marker in the text [P]', {
  timeout: TIMEOUT_MS,
}, async ({ task }) => {
  const redisUrl = withPassword(redis.url, SECRET.redis);
  const env = { OPENAI_API_KEY: SECRET.apiKey, FRESHVEC_LOG_LEVEL: 'debug' };
  const options = { rows: 20, redisUrl, standin: { poison: POISON }, env, app: { hides: false } };
  await withFaultyProvider(options, async (system) => {
    const { provider, workers, app, db } = system;
    const { standin } = provider;
    const said: Said[] = [];
    // Ids below 0 are out of the app's reach.
    await db.query(`INSERT INTO doc (id, title, body) OVERRIDING SYSTEM VALUE VALUES
      (-1, 'taken', '${MARKER} that is taken'), (-2, 'refused', '${POISON}'),
      (-3, 'too long', repeat('${MARKER} ', 100000))`);
    await addBrokenSource(system);
    app.start();

    const secretUrl = withPassword(system.url, SECRET.database);
    const good = { DATABASE_URL: secretUrl, OPENAI_BASE_URL: `${provider.baseUrl}?key=${SECRET.query}` };
    const port = await freePort();
    await workers.start({ env: { ...good, FRESHVEC_HTTP_PORT: String(port) } });
    const failures = async () => (await system.backlog()).failures === 3;
    await eventually(failures, { timeoutMs: 60_000, what: 'a failure row of each kind' });
    for (const fault of OUTAGES) {
      const before = standin.stats().faults[fault.kind] ?? 0;
      standin.set({ faults: [fault] });
      // Once may be chance, and is put down nowhere.
      const rests = async () =>
        (standin.stats().faults[fault.kind] ?? 0) > before &&
        (await db.query('SELECT FROM freshvec.account WHERE resumes_at > clock_timestamp()')).length > 0;
      await eventually(rests, { timeoutMs: 40_000, what: `a pause for an answer of the kind ${fault.kind}` });
      standin.set({ faults: [] });
      await system.probe();
      await keepNotes(system, said);
    }
    expect(standin.last?.headers.authorization).toContain(SECRET.apiKey);
    expect(standin.last?.url).toContain(SECRET.query);
    for (const what of ['metrics', 'readyz', 'freshz', 'nowhere']) {
      const answer = await fetch(`http://127.0.0.1:${port}/${what}?${MARKER}`);
      said.push({ by: `/${what}`, text: `${answer.status} ${await answer.text()}` });
    }

    // Commands, while the key is refused: the stand-in quotes it.
    standin.set({ faults: [{ kind: 'unauthorised' }] });
    await eventually(async () => (await system.cli(['status'])).stdout.includes('(paused)'), {
      timeoutMs: 40_000,
      intervalMs: 200,
      what: 'a pause',
    });
    await keepNotes(system, said);
    const usual: Record<string, string> = { DATABASE_URL: secretUrl, OPENAI_BASE_URL: good.OPENAI_BASE_URL };
    await Promise.all(COMMANDS.slice(0, 6).map((argv) => command(system, said, argv, usual)));
    await Promise.all(COMMANDS.slice(6).map((argv) => command(system, said, argv, usual)));
    const wrong = wrongSettings(system);
    const everyWrong = [...wrong.places, ...wrong.providers];
    for (const settings of everyWrong) await command(system, said, ['status', '--verbose'], { ...usual, ...settings });
    await Promise.all(workers.all.map((worker) => worker.end('SIGTERM')));
    standin.set({ faults: [] });

    // Workers whose settings are wrong; those that cannot start say so, the others go on without.
    const lost = wrong.places.map((settings) => workers.start({ wait: false, env: { ...good, ...settings } }));
    for (const worker of await Promise.all(lost)) await spoken(worker);
    await Promise.all(workers.all.map((worker) => worker.end('SIGKILL')));
    for (const settings of wrong.providers) {
      await system.cli(['resume', 'doc']);
      const worker = await workers.start({ wait: false, env: { ...good, ...settings } });
      await spoken(worker);
      await worker.end('SIGKILL');
      await keepNotes(system, said);
    }
    for (const worker of workers.all) said.push({ by: worker.name, text: worker.log() });
    said.push({ by: 'the queue', text: await allOf(redisUrl) });
    await app.stop();

    const leaks = said.flatMap(({ by, text }) =>
      [...Object.values(SECRET), MARKER].flatMap((secret) => {
        const at = text.indexOf(secret);
        return at < 0 ? [] : [`${by}: …${text.slice(Math.max(0, at - 200), at + 60)}…`];
      }),
    );
    expect(leaks).toEqual([]);
    // All of them did speak, of what went wrong.
    for (const { by, text } of said) expect(text.length, by).toBeGreaterThan(10);
    const notes = said.map(({ text }) => text).join('\n');
    for (const word of [
      'HTTP 401',
      'HTTP 400',
      'HTTP 500',
      'HTTP 429',
      'content_error',
      'config_invalid',
      'WRONGPASS',
    ]) {
      expect(notes).toContain(word);
    }
    expect(notes).toContain('freshvec_');
    app.assertUndisturbed();
    task.meta.tries = said.length;
  });
});

interface Said {
  readonly by: string;
  readonly text: string;
}

const COMMANDS: readonly (readonly string[])[] = [
  ['status', '--json'],
  ['failures', 'list', '--json'],
  ['failures', 'list'],
  ['config', 'show', '--json'],
  ['embed', `${MARKER} to embed`, '--model', 'openai/standin@64', '--verbose'],
  ['embed', `${MARKER} to embed`, '--model', 'openai/standin@64', '--json'],
  ['search', 'doc', `${MARKER} to find`, '--json'],
  ['search', 'doc', `${MARKER} to find`, '--verbose'],
  ['probe', 'check', 'openai/standin@64', '--json'],
  ['failures', 'retry', 'doc', '-2', '--json'],
  ['work', '--once', '--json'],
  ['spend', '--json'],
];

/** Settings that are wrong, each with a secret in it: of database and queue, and of the provider. */
function wrongSettings({ url, provider }: System<FaultyProvider>) {
  const nowhere = new URL(withPassword(url, SECRET.database));
  nowhere.pathname = '/no_such_database';
  const places: Record<string, string>[] = [
    { DATABASE_URL: nowhere.href },
    { DATABASE_URL: `postgres://app:${SECRET.database}@127.0.0.1:no-port/db` },
    { DATABASE_URL: `mysql://app:${SECRET.database}@127.0.0.1/db` },
    { REDIS_URL: withPassword(redis.url, `${SECRET.redis}-not`) },
    { REDIS_URL: withPassword('redis://127.0.0.1:1/0', SECRET.redis) },
    { REDIS_URL: `http://:${SECRET.redis}@127.0.0.1/` },
  ];
  const server = provider.baseUrl.replace('http://', '');
  const providers: Record<string, string>[] = [
    { OPENAI_BASE_URL: `http://app:${SECRET.baseUrl}@${server}` },
    { OPENAI_BASE_URL: `ftp://app:${SECRET.baseUrl}@${server}` },
    { OPENAI_BASE_URL: `http://app:${SECRET.baseUrl}@:no-port` },
    { OPENAI_BASE_URL: `http://127.0.0.1:1/v1?key=${SECRET.query}` },
    { OPENAI_API_KEY: `${SECRET.apiKey}\u2026` },
  ];
  return { places, providers };
}

/** Until the worker has ended, or warned of something. */
async function spoken(worker: WorkerProcess): Promise<void> {
  const says = () => !worker.running || /"level":[456]0/.test(worker.log());
  await eventually(says, { timeoutMs: 40_000, what: `a word of ${worker.name}` });
}

async function command(
  system: System<FaultyProvider>,
  said: Said[],
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<void> {
  const { code, stdout, stderr } = await system.cli(argv, { env });
  said.push({ by: `freshvec ${argv[0]} ${argv[1] ?? ''}`, text: `exit code ${code}\n${stdout}\n${stderr}` });
}

/** What stands in the tables for people to read. */
async function keepNotes({ db }: System<FaultyProvider>, said: Said[]): Promise<void> {
  const rows = await db.query(
    `SELECT 'failure' AS of, code || ' ' || message AS text FROM freshvec.failure
     UNION ALL SELECT 'pause', reason FROM freshvec.pause
     UNION ALL SELECT 'account', account || ' ' || COALESCE(reason, '') FROM freshvec.account
     UNION ALL SELECT 'probe', fingerprint || ' ' || COALESCE(reason, '') FROM freshvec.probe
     UNION ALL SELECT 'lease', worker || ' ' || key FROM freshvec.lease WHERE worker IS NOT NULL`,
  );
  said.push({ by: 'tables', text: JSON.stringify(rows) });
}

/** A source whose content cannot be had: PostgreSQL's message quotes it. */
async function addBrokenSource({ db, env, space }: System<FaultyProvider>): Promise<void> {
  await db.exec(`CREATE TABLE broken (id bigint PRIMARY KEY, body text)`);
  const client = createClient({ env, configFile: false });
  try {
    const content = { sql: `'number ' || (body::int)::text` };
    await client.sources.add({ table: 'broken', content, model: space.spec, store: 'table', index: 'none' });
  } finally {
    await client.close();
  }
  await db.query('INSERT INTO broken VALUES (1, $1)', [MARKER]);
}

/** Every key of the queue's Redis with all that it holds. */
async function allOf(url: string): Promise<string> {
  const client = new Redis(url);
  try {
    const lines: string[] = [];
    for (const key of await client.keys('*')) {
      const type = await client.type(key);
      const read: Record<string, () => Promise<unknown>> = {
        string: () => client.get(key),
        hash: () => client.hgetall(key),
        list: () => client.lrange(key, 0, -1),
        set: () => client.smembers(key),
        zset: () => client.zrange(key, 0, '-1', 'WITHSCORES'),
        stream: () => client.xrange(key, '-', '+'),
      };
      lines.push(`${key} ${type} ${JSON.stringify(await read[type]?.())}`);
    }
    return lines.join('\n');
  } finally {
    client.disconnect();
  }
}

function withPassword(url: string, password: string): string {
  const parsed = new URL(url);
  parsed.password = password;
  return parsed.href;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
