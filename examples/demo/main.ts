/**
 * freshvec in a minute, with no service, no key and no network: the README files of the installed packages become
 * rows, the bundled model embeds them, three questions are answered, an edited row is found again milliseconds later,
 * and all rows move to another model, and back, while searches go on. `--once` waits for nobody; `--json` ends with one JSON document on stdout.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../src/config/package-root.js';
import { type Client, createClient } from '../../src/index.js';
import { readSections } from './readmes.js';
import { reembed } from './reembed.js';
import { progressBar, say, showResults } from './show.js';

const QUESTIONS = [
  'How do I retry a failed job with exponential backoff?',
  'How can I validate user input against a schema?',
  'show a progress bar in the terminal',
] as const;

const MODELS = { first: 'static/mini@128', second: 'static/mini@256' } as const;

const EDITED = 'Purple walruses tune their grand pianos by moonlight before every lighthouse concert.';
const EDIT_QUESTION = 'who tunes grand pianos by moonlight?';

const { values: flags } = parseArgs({ options: { once: { type: 'boolean' }, json: { type: 'boolean' } } });
const attended = !flags.once && !flags.json && process.stdin.isTTY === true;

const folder = join(packageRoot(), '.freshvec', 'demo');
await rm(folder, { recursive: true, force: true });
await rm(`${folder}.lock`, { force: true });
const client = createClient({ embedded: folder, configFile: false, env: {}, settings: { log: { level: 'silent' } } });
try {
  const report = await demo(client);
  if (flags.json) process.stdout.write(`${JSON.stringify(report)}\n`);
} finally {
  await client.close();
  await rm(folder, { recursive: true, force: true });
}

async function demo(freshvec: Client) {
  say('1. An embedded Postgres (PGlite with pgvector), the bundled model static/mini@128. No service, no key.');
  await freshvec.schema.apply();
  const documents = await load(freshvec);
  say(`\n2. ${documents} sections of the README files in node_modules are rows now. Their embeddings:`);
  await freshvec.sources.add({ table: 'readme', content: { columns: ['title', 'body'] }, model: MODELS.first });
  const began = performance.now();
  const bar = progressBar(documents);
  const { written: embedded } = await freshvec.workOnce({
    onProgress: ({ total, remaining }) => bar.update(total - remaining),
  });
  bar.stop();
  const seconds = Number(((performance.now() - began) / 1000).toFixed(2));
  say(`   ${embedded} rows embedded and written in ${seconds} s.`);

  say('\n3. Three questions:');
  const questions = [];
  for (const question of QUESTIONS) {
    const { results } = await freshvec.search('readme', { text: question, k: 3 });
    showResults(question, results);
    questions.push({ question, results });
  }

  say('\n4. A worker runs now. One row is edited, as an app would:');
  const stop = new AbortController();
  const working = freshvec.work({ signal: stop.signal });
  try {
    const freshnessMs = await editAndFind(freshvec);
    say(`\n5. The rows move from ${MODELS.first} to ${MODELS.second} while searches go on:`);
    const reembedding = await reembed(freshvec, 'readme', MODELS.second, QUESTIONS);
    if (attended) await askAlong(freshvec);
    return { documents, embedded, seconds, questions, freshnessMs, reembedding };
  } finally {
    stop.abort();
    await working;
  }
}

async function load(freshvec: Client): Promise<number> {
  const db = await freshvec.database();
  await db.exec(
    'CREATE TABLE readme (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, package text NOT NULL, title text NOT NULL, body text NOT NULL)',
  );
  const sections = await readSections(join(packageRoot(), 'node_modules'));
  await db.query('INSERT INTO readme (package, title, body) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])', [
    sections.map((section) => section.package),
    sections.map((section) => section.title),
    sections.map((section) => section.body),
  ]);
  return sections.length;
}

/** Edits a row while a worker runs, and asks until the search finds the new text. Resolves to the milliseconds. */
async function editAndFind(freshvec: Client): Promise<number> {
  const db = await freshvec.database();
  // The worker has started once it sleeps and has capture ring for it.
  const asleep = `SELECT FROM freshvec.ring_until WHERE last_value > extract(epoch FROM now())`;
  while ((await db.query(asleep)).length === 0) await pause(20);
  if (attended) await prompt('   Press Enter to edit the row. ');
  say(`   UPDATE readme SET body = '${EDITED}' WHERE id = 1;`);
  await db.query('UPDATE readme SET body = $1 WHERE id = 1', [EDITED]);
  const committed = performance.now();
  for (;;) {
    const { results } = await freshvec.search('readme', { text: EDIT_QUESTION, k: 1 });
    const [best] = results;
    if (best?.row.body === EDITED && !best.stale) {
      const freshnessMs = Math.round(performance.now() - committed);
      showResults(EDIT_QUESTION, results);
      say(`   Found ${freshnessMs} ms after the commit.`);
      return freshnessMs;
    }
    await pause(5);
  }
}

async function askAlong(freshvec: Client): Promise<void> {
  say('\n6. Your turn: ask something (Enter alone ends).');
  for (;;) {
    const question = await prompt('   ? ');
    if (question.trim() === '') return;
    showResults(question, (await freshvec.search('readme', { text: question, k: 3 })).results);
  }
}

async function prompt(text: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return await lines.question(text);
  } finally {
    lines.close();
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
