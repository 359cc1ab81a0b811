/**
 * A migration's controller in a process of its own, from dist, that strikes itself (SIGKILL, SIGSTOP) at the boundary of
 * a statement: `before` it is sent, or once it was `sent` and before its answer is looked at. Starts when it is told what
 * to do: one JSON document on stdin. Says on stdout, in lines of JSON, where it strikes, that it came to the end of what
 * it was at then, and in which state it found nothing more to do.
 *
 * A boundary, of a statement that may change something, is named by the migration's state, the statement's text without ids, and before or sent; so one that was
 * met already (`met`) is passed over, and each process of a row gets one further than the last.
 */
import { createHash } from 'node:crypto';
import { readFileSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openDatabase } from '../../../dist/src/db/open.js';
import { cutover, rollback } from '../../../dist/src/reembed/control.js';
import { controlMigration } from '../../../dist/src/reembed/controller.js';

/** With `ask` it is a person's command on the source `doc` instead of a controller, and ends by itself. */
/** @type {{ url: string, name: string, id: number, ask?: 'cutover' | 'rollback', strike?: { signal: NodeJS.Signals, at?: string, met: string[] } }} */
const { url, name, id, ask, strike } = JSON.parse(readFileSync(0, 'utf8'));
const met = new Set(strike?.met);
const wanted = new RegExp(strike?.at ?? '');
let state = 'unknown';
/** Struck once: whoever is continued goes on like any other. */
let struck = false;

/** Statements that change nothing: struck at one is struck after the last that did. */
const READS = /^\s*(SELECT (?!set_config)|SET |the extension)/;

/** Whether this is where to strike; says so if it is. */
function strikesAt(when, sql) {
  if (!strike || struck || READS.test(sql)) return false;
  const text = sql
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '*')
    .replaceAll(/\d+/g, '#')
    .replaceAll(/\s+/g, ' ');
  const key = createHash('sha1').update(`${state} ${when} ${text}`).digest('base64').slice(0, 12);
  const label = `${state}, ${when}: ${text.slice(0, 200)}`;
  if (met.has(key) || !wanted.test(label)) return false;
  struck = true;
  writeSync(1, `${JSON.stringify({ key, label })}\n`);
  return true;
}

async function run(sql, send) {
  if (strikesAt('before', sql)) process.kill(process.pid, strike.signal);
  const sent = strikesAt('sent', sql);
  const answer = send();
  if (sent) await strikeLater(answer);
  const rows = await answer;
  if (Array.isArray(rows) && rows[0] && 'drop_space' in rows[0]) ({ state } = rows[0]);
  return rows;
}

/** After a moment for the bytes to leave; the server may be at it still, or done. */
async function strikeLater(answer) {
  answer.catch(() => {});
  await sleep(5);
  process.kill(process.pid, strike.signal);
}

const real = await openDatabase({ kind: 'postgres', url, poolSize: 4, applicationName: name, onError: () => {} });
const watched = (executor) => ({ query: (sql, params) => run(sql, () => executor.query(sql, params)) });
const db = {
  ...watched(real),
  kind: real.kind,
  exec: (sql) => run(sql, () => real.exec(sql)),
  session: (fn) => real.session((session) => fn(watched(session))),
  vectorExtension: () => run('the extension', () => real.vectorExtension()),
  async tx(fn) {
    let last = 'nothing';
    let sent = false;
    const ended = real.tx(async (tx) => {
      const result = await fn({
        query(sql, params) {
          last = sql;
          return watched(tx).query(sql, params);
        },
      });
      if (strikesAt('before', `COMMIT of ${last}`)) process.kill(process.pid, strike.signal);
      sent = strikesAt('sent', `COMMIT of ${last}`);
      return result;
    });
    const result = await ended;
    // It is committed, and nobody was told.
    if (sent) process.kill(process.pid, strike.signal);
    return result;
  },
};

const deps = {
  db,
  runGates: async () => [],
  throttle: async () => ({ share: 1, signals: [] }),
  index: { maintenanceWorkMem: undefined, parallelWorkers: undefined },
};
const stop = new AbortController().signal;
if (ask) {
  await { cutover, rollback }[ask](db, 'doc');
  process.exit(0);
}
let rested;
let woke = false;
for (;;) {
  // As `startReembedder` does.
  const restMs = await controlMigration(deps, id, stop).catch((error) => {
    writeSync(2, `${error?.stack ?? error}\n`);
  });
  if (struck && !woke) writeSync(1, `${JSON.stringify({ woke: true })}\n`);
  woke = struck;
  // Not where another one is at work, or this one failed.
  if (restMs !== undefined && rested !== state) writeSync(1, `${JSON.stringify({ rests: state })}\n`);
  rested = restMs === undefined ? undefined : state;
  await sleep(20);
}
