import type { Client } from 'pg';
import { getSourceById } from '../src/catalog/source.js';
import { getSpace } from '../src/catalog/space.js';
import type { Database } from '../src/db/database.js';
import { ensureIndex } from '../src/store/build-index.js';
import type { Figure } from './support/figures.js';
import type { Bench, Lab } from './support/lab.js';
import { type Load, pgbench } from './support/pgbench.js';
import { addSource, prepare, tableSql, textsSql } from './support/source.js';
import { mean, median, timed } from './support/stats.js';
import { WorkerProcess } from './support/worker.js';

const ROWS = 20_000;
const DIMENSIONS = 384;
const BULK_ROWS = 200_000;
/** Short turns: what else the machine does falls on both alike. */
const TURNS = ['plain', 'fresh', 'fresh', 'plain'] as const;
const TURN = { seconds: 2 };
/** Where edits get cheaper the more of them a table has seen: as many on both, about two seconds' worth. */
const TURN_OF_EDITS = { transactions: 500 };
const REPETITIONS = 7;
const CONTENT = { columns: ['body'] };

/**
 * Each workload runs on two equal tables, `plain` and `fresh`; only the second is a source. Edited texts are as long as
 * those before: were they shorter, one more row of `plain` would fit on a page, and sooner.
 */
const EDIT = (table: string) => `\\set id random(1, ${ROWS})
\\set r random(1, 1000000000)
UPDATE ${table} SET body = 'Note ' || :id || ': the quick brown fox ' || md5(:r::text) || ' jumps over the lazy dog again' WHERE id = :id;`;
const TOUCH = (table: string) => `\\set id random(1, ${ROWS})
UPDATE ${table} SET n = n + 1 WHERE id = :id;`;

/**
 * What capture costs the app. Single rows: a worker runs, whose provider is slow, so that it notices, claims and waits
 * as usual but does not take the app's processors to write vectors. Bulk: no worker.
 */
export const capture: Bench = async (lab) => {
  const url = await lab.postgres();
  const [db, client] = [lab.database(url), await lab.client(url)];
  await prepare(db);
  const spaceId = await twins(lab, db, client, url);
  const figures = await singleRows(lab, db, client, url, spaceId);
  return [...figures, ...(await bulk(lab, db, client, url))];
};

/** Two tables with the same rows and vectors; the vectors of `plain` are copied, as an app's own would be there. */
async function twins(lab: Lab, db: Database, client: Client, url: string): Promise<number> {
  await db.exec(tableSql('fresh', ROWS));
  await db.exec('ALTER TABLE fresh SET (fillfactor = 50)'); // Else neither table's edits are HOT until it has grown.
  const spaceId = await addSource(db, {
    table: 'fresh',
    content: CONTENT,
    model: `fake/bench@${DIMENSIONS}`,
    store: 'column',
  });
  const worker = await WorkerProcess.start(lab, { url, mode: 'drain' });
  await worker.drain();
  await worker.stop();
  await client.query(tableSql('plain', 0));
  await client.query(`ALTER TABLE plain SET (fillfactor = 50), ADD COLUMN embedding vector(${DIMENSIONS})`);
  await client.query('INSERT INTO plain SELECT id, body, n, embedding FROM fresh ORDER BY id');
  await client.query('VACUUM FULL ANALYZE fresh');
  await client.query('VACUUM ANALYZE plain');
  return spaceId;
}

async function singleRows(lab: Lab, db: Database, client: Client, url: string, spaceId: number): Promise<Figure[]> {
  const worker = await WorkerProcess.start(lab, { url, mode: 'serve', latencyMs: 3_600_000 });
  const compare = (
    what: string,
    clients: number,
    script: (table: string) => string,
    { tidy, length }: { tidy: Tidy; length: Load['length'] } = { tidy: vacuum, length: TURN },
  ) => ratioOfRates(lab, client, what, tidy, (table) => pgbench({ url, clients, length, script: script(table) }));

  const figures: Figure[] = [
    { ...(await compare('single-row content edits, 32 clients', 32, EDIT)), atLeast: 0.6 },
    { ...(await compare('single-row edits of another column, 32 clients', 32, TOUCH)), atLeast: 0.9 },
  ];
  await buildTwinIndexes(lab, db, client, spaceId);
  figures.push(await compare('single-row content edits, 4 clients, HNSW index, fillfactor 50', 4, EDIT));
  lab.say('the same with the default fillfactor');
  for (const table of ['plain', 'fresh']) await client.query(`ALTER TABLE ${table} RESET (fillfactor)`);
  figures.push({
    ...(await compare('single-row content edits, 4 clients, HNSW index', 4, EDIT, {
      tidy: compact,
      length: TURN_OF_EDITS,
    })),
    atLeast: 0.93,
  });
  await worker.stop();
  lab.setup.push(
    `single rows: ${ROWS} rows with ${DIMENSIONS} dimensions, ${TURNS.length} turns of ${TURN.seconds} s × ${REPETITIONS}; a worker with a slow provider`,
  );
  return figures;
}

type Tidy = (client: Client, table: string) => Promise<unknown>;

const vacuum: Tidy = (client, table) => client.query(`VACUUM ${table}`);

/**
 * As tables are unless somebody says otherwise: pages full, so that most edits are not HOT and put the old vector into
 * the index again. Each repetition starts so, since the faster one would else be the sooner to make itself room.
 */
const compact: Tidy = (client, table) => client.query(`VACUUM FULL ANALYZE ${table}`);

/** Rate on `fresh` / rate on `plain`, of each repetition the mean of its turns. */
async function ratioOfRates(
  lab: Lab,
  client: Client,
  what: string,
  tidy: Tidy,
  rate: (table: string) => Promise<number>,
): Promise<Figure> {
  const ratios: number[] = [];
  for (let i = 0; i < REPETITIONS; i++) {
    await client.query('TRUNCATE freshvec.change, freshvec.change_pack');
    for (const table of ['plain', 'fresh']) await tidy(client, table);
    await client.query('CHECKPOINT');
    const rates: Record<string, number[]> = { plain: [], fresh: [] };
    for (const table of TURNS) rates[table]?.push(await rate(table));
    const [plain, fresh] = [mean(rates.plain ?? []), mean(rates.fresh ?? [])];
    lab.say(`${what}: plain ${plain.toFixed(0)}/s, fresh ${fresh.toFixed(0)}/s`);
    ratios.push(fresh / plain);
  }
  return { what: `${what}: × plain`, value: median(ratios), unit: '×' };
}

async function buildTwinIndexes(lab: Lab, db: Database, client: Client, spaceId: number): Promise<void> {
  lab.say('building two HNSW indexes');
  const space = await getSpace(db, spaceId);
  const source = space && (await getSourceById(db, space.sourceId));
  if (!space || !source) throw new Error('the space is gone');
  await ensureIndex(db, source, space);
  await client.query('CREATE INDEX ON plain USING hnsw (embedding vector_cosine_ops)');
}

async function bulk(lab: Lab, db: Database, client: Client, url: string): Promise<Figure[]> {
  await db.exec(tableSql('bulk_plain', 0));
  await db.exec(tableSql('bulk_fresh', 0));
  await addSource(db, { table: 'bulk_fresh', content: CONTENT, model: 'fake/bench@8', index: 'none', store: 'column' });
  const steps = [
    { what: 'insert', sql: (table: string) => `INSERT INTO ${table} (id, body) ${textsSql(1, BULK_ROWS)}`, atMost: 2 },
    { what: 'update of the content', sql: (table: string) => `UPDATE ${table} SET body = body || '!'`, atMost: 2 },
    { what: 'update of another column', sql: (table: string) => `UPDATE ${table} SET n = n + 1`, atMost: 1.4 },
  ];
  const ratios = steps.map((): number[] => []);
  for (let i = 0; i < REPETITIONS; i++) {
    await client.query('TRUNCATE bulk_plain, bulk_fresh');
    for (const [at, { what, sql }] of steps.entries()) {
      const ms = new Map<string, number>();
      for (const table of i % 2 === 0 ? ['bulk_plain', 'bulk_fresh'] : ['bulk_fresh', 'bulk_plain']) {
        await client.query('TRUNCATE freshvec.change, freshvec.change_pack');
        await client.query(`VACUUM ANALYZE ${table}`);
        await client.query('CHECKPOINT');
        ms.set(table, await timed(() => client.query(sql(table))));
      }
      const [plain, fresh] = [ms.get('bulk_plain') ?? 0, ms.get('bulk_fresh') ?? 0];
      lab.say(`bulk ${what}: plain ${plain.toFixed(0)} ms, fresh ${fresh.toFixed(0)} ms`);
      ratios[at]?.push(fresh / plain);
    }
  }
  lab.setup.push(`bulk: ${BULK_ROWS} rows in one statement, × ${REPETITIONS}, alternating, no worker`);
  return [
    ...steps.map(({ what, atMost }, at): Figure => {
      return { what: `bulk ${what}: time × plain`, value: median(ratios[at] ?? []), unit: '×', atMost };
    }),
    ...(await unrelatedEdits(lab, client, url)),
  ];
}

/** All rows fresh, then an update of another column: nothing may be enqueued, nothing embedded. */
async function unrelatedEdits(lab: Lab, client: Client, url: string): Promise<Figure[]> {
  await client.query('TRUNCATE bulk_fresh');
  await client.query(`INSERT INTO bulk_fresh (id, body) ${textsSql(1, BULK_ROWS)}`);
  const worker = await WorkerProcess.start(lab, { url, mode: 'drain' });
  await worker.drain();
  await client.query('UPDATE bulk_fresh SET n = n + 1');
  const { rows } = await client.query<{ changes: string }>('SELECT count(*) AS changes FROM freshvec.change_key');
  const { report } = await worker.drain();
  await worker.stop();
  return [
    { what: 'bulk update of another column: change rows', value: Number(rows[0]?.changes), unit: '', atMost: 0 },
    { what: 'bulk update of another column: rows embedded', value: report.written, unit: '', atMost: 0 },
  ];
}
