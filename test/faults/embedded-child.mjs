// A process of its own on the embedded database argv[2]: opens it, works and writes rows until it is ended. Prints one
// JSON line when it has it open, or why not, and one for every row that was committed.
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '../../dist/src/index.js';

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
const settings = { log: { level: 'silent' } };
const client = createClient({
  embedded: process.argv[2],
  env: {},
  configFile: false,
  settings,
  onError: () => {},
});
const stop = new AbortController();
process.once('SIGTERM', () => stop.abort());
try {
  const db = await client.database();
  await client.schema.apply();
  await db.exec('CREATE TABLE IF NOT EXISTS note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)');
  await client.sources.add({ table: 'note', content: { columns: ['body'] }, model: 'fake/m@8' });
  const working = client.work({ signal: stop.signal });
  say({ opened: true });
  while (!stop.signal.aborted) {
    const [row] = await db.query(
      `INSERT INTO note (body) VALUES ('note of ${process.pid} ' || clock_timestamp()) RETURNING id`,
    );
    say({ committed: row.id });
    await sleep(5); // An embedded database answers without the event loop, which the worker and signals want.
  }
  await working;
} catch (error) {
  say({ code: error.code, message: error.message });
} finally {
  await client.close();
}
