// A process of its own that opens the embedded database argv[2]: prints one JSON line, then holds it until it is ended.
import { runnerImport } from 'vite';

const source = new URL('../../src/db/pglite.ts', import.meta.url);
const { module } = await runnerImport(source.pathname, { configFile: false, logLevel: 'error' });
try {
  const db = await module.openPglite({ dataDir: process.argv[2] });
  await db.exec('CREATE TABLE IF NOT EXISTS note (id int PRIMARY KEY); INSERT INTO note VALUES (1)');
  process.once('SIGTERM', () => db.close().then(() => process.exit(0)));
  process.stdout.write(`${JSON.stringify({ opened: true })}\n`);
  setInterval(() => undefined, 1000);
} catch (error) {
  process.stdout.write(`${JSON.stringify({ code: error.code, message: error.message })}\n`);
}
