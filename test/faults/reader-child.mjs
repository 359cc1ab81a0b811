/**
 * A process that searches `doc` by text until it is told to end, and writes what each search came to, a JSON line each.
 * Its settings come from the environment, as an app's do.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '../../dist/src/index.js';

const client = createClient({ configFile: false });
const stop = new AbortController();
process.on('SIGTERM', () => stop.abort());
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

for (let i = 0; !stop.signal.aborted; i++) {
  try {
    const { epoch, space, results } = await client.search('doc', { text: `text of the first load ${i % 50}`, k: 5 });
    say({ epoch, space, models: results.map(({ model }) => model) });
  } catch (error) {
    say({ error: String(error) });
  }
  await sleep(Number(process.env.SEARCH_EVERY_MS ?? 20), undefined, { signal: stop.signal }).catch(() => {});
}
await client.close();
