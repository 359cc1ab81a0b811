import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { PROBE_TEXTS } from '../src/embed/probe.js';
import type { StandinOptions, StandinStats } from '../test/support/standin/standin.js';
import type { Figure } from './support/figures.js';
import type { Bench, Lab } from './support/lab.js';
import { addSource, prepare } from './support/source.js';
import { WorkerProcess } from './support/worker.js';

const WORKERS = 4;
const MINUTES = 3;
const LIMITS = { requestsPerMinute: 3_000, tokensPerMinute: 1_000_000 };
const LATENCY = { latencyMs: 150, jitterMs: 100 };
/** About a hundred tokens each, enough for all the minutes and more. */
const ROWS = 40_000;
const MODEL = 'openai/stand-in@256';

/**
 * Workers that know nothing of the limits but what the provider's headers say, and share them through Postgres. The
 * limits are those of a sliding window, so any request too many is refused.
 */
export const ratelimit: Bench = async (lab: Lab): Promise<Figure[]> => {
  const url = await lab.postgres();
  const db = lab.database(url);
  await prepare(db);
  const standin = await startStandin(lab, { ...LIMITS, ...LATENCY, dimensions: 256 });
  await db.exec(`CREATE TABLE note (id bigint PRIMARY KEY, body text NOT NULL);
    INSERT INTO note SELECT i, 'Note ' || i || ': ' || repeat(md5(i::text) || ' ', 12) FROM generate_series(1, ${ROWS}) i`);
  process.env.OPENAI_BASE_URL = standin.baseUrl; // For the plan; workers are told.
  await addSource(db, { table: 'note', content: { columns: ['body'] }, model: MODEL, index: 'none', store: 'column' });
  lab.setup.push(
    `${WORKERS} worker processes, ${ROWS} rows; the provider in a process of its own, ${LATENCY.latencyMs} ± ${LATENCY.jitterMs} ms, ` +
      `${LIMITS.requestsPerMinute} requests and ${LIMITS.tokensPerMinute} tokens in any 60 s; ${MINUTES} minutes`,
  );
  for (let i = 0; i < WORKERS; i++) await WorkerProcess.start(lab, { url, mode: 'serve', baseUrl: standin.baseUrl });
  let first = await standin.stats();
  while (first.charged.requests === 0) first = await sleep(10).then(standin.stats);
  const began = performance.now();
  for (let minute = 1; minute <= MINUTES; minute++) {
    await sleep(began + minute * 60_000 - performance.now());
    const { charged, rateLimited } = await standin.stats();
    lab.say(`minute ${minute}: ${charged.tokens} tokens, ${charged.requests} requests, ${rateLimited} refused`);
  }
  const stats = await standin.stats();
  const [used, asked] = [stats.charged.tokens - first.charged.tokens, stats.requests];
  return [
    {
      what: 'tokens used: × the limit',
      value: used / (LIMITS.tokensPerMinute * MINUTES),
      unit: '×',
      atLeast: 0.95,
    },
    { what: 'requests used: × the limit', value: asked / (LIMITS.requestsPerMinute * MINUTES), unit: '×' },
    { what: '429s: × the requests', value: stats.rateLimited / asked, unit: '×', atMost: 0.001 },
    {
      what: "texts paid for twice, beside each worker's probe",
      value: stats.chargedAgain - PROBE_TEXTS.length * (WORKERS - 1),
      unit: '',
      atMost: 0,
    },
  ];
};

/** The stand-in as a process of its own, so that it answers while the bench and the workers are busy. */
async function startStandin(
  lab: Lab,
  options: StandinOptions,
): Promise<{ baseUrl: string; stats: () => Promise<StandinStats> }> {
  const main = fileURLToPath(new URL('../test/support/standin/standin-main.js', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [main, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  lab.later(async () => {
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  });
  const [line] = (await once(child.stdout ?? child, 'data')) as [Buffer];
  const baseUrl = line.toString().trim();
  const stats = async () => (await fetch(new URL('/stats', baseUrl))).json() as Promise<StandinStats>;
  return { baseUrl, stats };
}
