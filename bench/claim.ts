import { randomUUID } from 'node:crypto';
import type { Client } from 'pg';
import { getSourceById } from '../src/catalog/source.js';
import { getSpace } from '../src/catalog/space.js';
import { release } from '../src/claim/settle.js';
import type { Database } from '../src/db/database.js';
import { openGate } from '../src/embed/gate.js';
import { openModel } from '../src/embed/open.js';
import { ClaimCursor } from '../src/stages/claim-cursor.js';
import { claimNext } from '../src/stages/claim-next.js';
import { type DrainContext, emptyReport } from '../src/stages/context.js';
import { LoadDuty } from '../src/stages/load-duty.js';
import { LongVisit } from '../src/stages/long-visit.js';
import { createPace } from '../src/stages/pace.js';
import { WaitingWrites } from '../src/stages/waiting-writes.js';
import { openStore } from '../src/store/index.js';
import { vectorCodec } from '../src/store/vector-codec.js';
import type { Figure } from './support/figures.js';
import type { Bench, Lab } from './support/lab.js';
import { addSource, prepare, tableSql, textsSql } from './support/source.js';
import { median, timed } from './support/stats.js';

const KEYS = 100;
const CLAIMS = 200;
const DEAD = 600_000;
const MODEL = 'fake/bench@8';

/** `claimNext` with everything that it looks at, all rows of the table stale, 100 keys a claim. */
export const claim: Bench = async (lab) => {
  const url = await lab.postgres();
  const [db, client] = [lab.database(url), await lab.client(url)];
  await prepare(db);
  const small = await staleTable(db, client, 'small', 10_000);
  const large = await staleTable(db, client, 'large', 1_000_000);
  const dead = await staleTable(db, client, 'dead', 0);
  await pileUpDead(lab, client, await lab.client(url), dead);
  const times = { small: [] as number[], large: [] as number[], dead: [] as number[], full: [] as number[] };
  const contexts = { small: await context(db, small), large: await context(db, large), dead: await context(db, dead) };
  for (const each of Object.values(contexts)) for (let i = 0; i < 5; i++) await claimOnce(each);
  for (let i = 0; i < CLAIMS; i++) {
    times.small.push(await claimOnce(contexts.small));
    times.large.push(await claimOnce(contexts.large));
    times.dead.push(await claimOnce(contexts.dead));
  }
  for (let i = 0; i < 5; i++) {
    contexts.dead.cursor.lookAgain();
    times.full.push(await claimOnce(contexts.dead));
  }
  lab.setup.push(`median of ${CLAIMS} claims of ${KEYS} keys each, in turns`);
  return figures(times);
};

function figures(times: Record<'small' | 'large' | 'dead' | 'full', number[]>): Figure[] {
  const small = median(times.small);
  return [
    { what: `claim ${KEYS} keys of 10,000 stale rows`, value: small, unit: 'ms' },
    { what: `claim ${KEYS} keys of 1,000,000 stale rows`, value: median(times.large), unit: 'ms' },
    {
      what: `claim ${KEYS} keys behind ${DEAD} dead rows under a held snapshot`,
      value: median(times.dead),
      unit: 'ms',
    },
    { what: 'the same when a full look is due, at most once a second', value: median(times.full), unit: 'ms' },
    { what: '1,000,000 rows / 10,000 rows', value: median(times.large) / small, unit: '×', atMost: 2 },
    { what: `${DEAD} dead rows / 10,000 rows`, value: median(times.dead) / small, unit: '×', atMost: 2 },
  ];
}

/** A source all of whose rows have a change; its first load is left away. */
async function staleTable(db: Database, client: Client, table: string, rows: number): Promise<number> {
  await client.query(tableSql(table, 0));
  const spaceId = await addSource(db, {
    table,
    content: { columns: ['body'] },
    model: MODEL,
    index: 'none',
    store: 'column',
  });
  await client.query('DELETE FROM freshvec.range');
  await insertRows(client, table, 1, rows);
  return spaceId;
}

/** In statements of 1,000 rows, which count as edits. */
async function insertRows(client: Client, table: string, from: number, to: number): Promise<void> {
  for (let at = from; at <= to; at += 1000) {
    await client.query(`INSERT INTO ${table} (id, body) ${textsSql(at, Math.min(at + 999, to))}`);
  }
}

/** Changes that were claimed and settled long ago, none of which a vacuum may remove; and then new ones. */
async function pileUpDead(lab: Lab, client: Client, holder: Client, spaceId: number): Promise<void> {
  lab.say(`piling up ${DEAD} dead rows`);
  await insertRows(client, 'dead', 1, DEAD);
  await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
  await holder.query('SELECT count(*) FROM freshvec.source');
  await client.query(
    `INSERT INTO freshvec.lease (space_id, key, token, worker, expires_at, since)
     SELECT space_id, key, gen_random_uuid(), 'gone', now() - interval '1 hour', now() FROM freshvec.change WHERE space_id = $1`,
    [spaceId],
  );
  await client.query('DELETE FROM freshvec.change WHERE space_id = $1', [spaceId]);
  await client.query('DELETE FROM freshvec.lease WHERE space_id = $1', [spaceId]);
  await insertRows(client, 'dead', DEAD + 1, DEAD + 50_000);
  await client.query('ANALYZE freshvec.change');
}

async function context(db: Database, spaceId: number): Promise<DrainContext> {
  const space = await getSpace(db, spaceId);
  const source = space && (await getSourceById(db, space.sourceId));
  const extension = await db.vectorExtension();
  if (!space || !source || !extension) throw new Error('the space is gone');
  const { signal } = new AbortController();
  return {
    db,
    store: openStore(source, space, await vectorCodec(db, extension)),
    model: await openModel(MODEL, { requestTimeoutMs: 30_000 }),
    gate: openGate(),
    cached: false,
    worker: 'bench',
    batchKeys: KEYS,
    cursor: new ClaimCursor(),
    load: new LoadDuty(),
    longVisit: new LongVisit(),
    pace: createPace(KEYS),
    staying: createPace(KEYS),
    indexed: () => 'none',
    appTriggers: () => true,
    parked: [],
    writeGate: (_priority, write) => write(),
    visitGate: (visit) => visit(),
    waiting: new WaitingWrites(),
    stop: signal,
    cut: signal,
    report: emptyReport(),
    moreThanOne: () => {},
  };
}

/** Ms of one claim; what it took is given up unsettled, which is not timed. */
async function claimOnce(context: DrainContext): Promise<number> {
  let token: string = randomUUID();
  let keys = 0;
  const ms = await timed(async () => {
    const taken = await claimNext(context, randomUUID());
    token = taken?.token ?? token;
    keys = taken?.keys.length ?? 0;
  });
  if (keys < KEYS * 0.9) throw new Error(`${keys} keys were claimed`);
  await release(context.db, context.store.space.id, token);
  return ms;
}
