/**
 * The stand-in as a process of its own: `node standin-main.js '{"requestsPerMinute":3000,"latencyMs":120}'`. Prints its
 * base URL as one line once it listens; counters at GET /stats, settings at POST /settings; ends on SIGTERM or SIGINT.
 */
import { type StandinOptions, startStandin } from './standin.js';

const options = JSON.parse(process.argv[2] ?? '{}') as StandinOptions;
const standin = await startStandin(options);
process.stdout.write(`${standin.baseUrl}\n`);
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void standin.close());
