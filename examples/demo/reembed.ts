import type { Client, MigrationStatus } from '../../src/index.js';
import { say } from './show.js';

export interface Reembedding {
  readonly from: string;
  readonly to: string;
  /** From the start until the new vectors were there and checked. */
  readonly seconds: number;
  readonly searches: number;
  readonly failed: number;
  /** Searches with a hit that another model made than that of the space that answered. */
  readonly mixed: number;
  readonly switchMs: number;
  readonly rollbackMs: number;
  /** Rows that were stale in the old model right after the rollback. */
  readonly staleAfterRollback: number;
}

const EDITS = 20;

/** Moves a source to another model while it is searched without a pause, and back again. A worker must be running. */
export async function reembed(
  freshvec: Client,
  source: string,
  model: string,
  questions: readonly string[],
): Promise<Reembedding> {
  const began = performance.now();
  const started = await freshvec.reembed.start(await freshvec.reembed.plan(source, { model }));
  const models = new Map([
    [started.spaces.from, started.from],
    [started.spaces.to, started.to],
  ]);
  const searching = searchOn(freshvec, source, questions, models);
  try {
    await until(freshvec, source, (now) => now.state === 'ready');
    const seconds = Number(((performance.now() - began) / 1000).toFixed(2));
    say(`   ${started.rows} rows have a second vector, built and checked in ${seconds} s, beside the first.`);
    const switchMs = await timed(() => freshvec.reembed.cutover(source));
    say(`   Switched in ${switchMs} ms: searches are answered by ${started.to}.`);
    await searching.some(10);
    await edit(freshvec, source);
    const rollbackMs = await timed(() => freshvec.reembed.rollback(source));
    const { sources } = await freshvec.status({ exact: true });
    const staleAfterRollback = sources.find((one) => one.source === source)?.stale ?? 0;
    say(
      `   ${EDITS} rows were edited; rolled back in ${rollbackMs} ms, ${staleAfterRollback} rows stale in the old model.`,
    );
    await searching.some(10);
    const counted = await searching.stop();
    say(`   Meanwhile: ${counted.searches} searches, ${counted.failed} failed, ${counted.mixed} across models.`);
    return { from: started.from, to: started.to, seconds, ...counted, switchMs, rollbackMs, staleAfterRollback };
  } finally {
    await searching.stop();
  }
}

/** Edits rows, and waits until both models know. */
async function edit(freshvec: Client, source: string): Promise<void> {
  const db = await freshvec.database();
  await db.query(`UPDATE readme SET body = body || ' (edited)' WHERE id % 50 = 2 AND id <= 50 * ${EDITS}`);
  const waiting = 'SELECT FROM freshvec.change_key UNION ALL SELECT FROM freshvec.lease';
  while ((await db.query(waiting)).length > 0) await pause(20);
  const { state } = await freshvec.reembed.status(source);
  if (state !== 'soaking') throw new Error(`the migration is ${state}`);
}

/** `models`: fingerprints by space. */
function searchOn(
  freshvec: Client,
  source: string,
  questions: readonly string[],
  models: ReadonlyMap<number | null, string>,
) {
  const counted = { searches: 0, failed: 0, mixed: 0 };
  let going = true;
  const run = (async () => {
    for (let turn = 0; going; turn++) {
      try {
        const text = questions[turn % questions.length] ?? '';
        const { results, space } = await freshvec.search(source, { text, k: 5 });
        const model = models.get(space);
        if (results.length === 0 || results.some((hit) => hit.model !== model)) counted.mixed += 1;
      } catch {
        counted.failed += 1;
      }
      counted.searches += 1;
      await pause(5);
    }
  })();
  return {
    async some(more: number): Promise<void> {
      for (const goal = counted.searches + more; counted.searches < goal; ) await pause(5);
    },
    async stop(): Promise<typeof counted> {
      going = false;
      await run;
      return counted;
    },
  };
}

async function until(
  freshvec: Client,
  source: string,
  there: (now: MigrationStatus) => boolean,
): Promise<MigrationStatus> {
  for (;;) {
    const now = await freshvec.reembed.status(source);
    if (there(now)) return now;
    if (now.state === 'parked' || now.state === 'aborted') throw new Error(`${now.state}: ${now.reason}`);
    await pause(50);
  }
}

async function timed(act: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await act();
  return Number((performance.now() - began).toFixed(1));
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
