// A worker process of its own. argv: queue options as JSON, then `hold` (drains never end) or `once` (one drain, close).
import { runnerImport } from 'vite';

const [, , json, mode] = process.argv;
const options = JSON.parse(json);
const source = (path) => new URL(`../../src/${path}`, import.meta.url).pathname;
const load = async (path) => (await runnerImport(source(path), { configFile: false, logLevel: 'error' })).module;
const { BullmqQueue } = await load('queue/queue.ts');
const onError = (error) => process.stderr.write(`${error.stack}\n`);
const backend =
  options.backend === 'redis'
    ? (await load('queue/redis.ts')).redisBackend(options, onError)
    : await (await load('queue/postgres.ts')).postgresBackend(options, onError);
const queue = new BullmqQueue(backend, 'child', onError);
await queue.start();
await new Promise((resolve) => {
  const drain = async (job) => {
    process.stdout.write(`${JSON.stringify(job)}\n`);
    resolve();
    if (mode === 'hold') await new Promise(() => undefined);
  };
  queue.work({ drain, maintain: async () => undefined }, { concurrency: 1 });
});
if (mode === 'once') await queue.close();
// No process.exit: that the process ends by itself is what the test is about.
