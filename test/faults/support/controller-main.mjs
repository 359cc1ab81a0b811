/**
 * A migration's controller in a process of its own, from dist, that strikes itself (SIGKILL, SIGSTOP) at the boundary of
 * a statement: `before` it is sent, or once it was `sent` and before its answer is looked at. Starts when it is told what
 * to do: one JSON document on stdin. Says on stdout, in lines of JSON, where it strikes, that it came to the end of what
 * it was at then, and in which state it found nothing more to do: it looks again later, or has taken a whole step there
 * and stays.
 *
 * A boundary, of a statement that may change something, is named by the migration's state, the statement's text without
 * what is new each time (tokens, names of dead indexes), and before or sent; so one that was met already (`met`) is passed
 * over, and each process of a row gets one further than the last.
 */
import { createHash } from 'node:crypto';
import { readFileSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openDatabase } from '../../../dist/src/db/open.js';
import { cutover, rollback } from '../../../dist/src/reembed/control.js';
import { controlMigration } from '../../../dist/src/reembed/controller.js';

/** With `ask` it is a person's command on the source `doc` instead of a controller, and ends by itself. */
/** `gates`: the real ones. */
/** @type {{ url: string, name: string, id: number, ask?: 'cutover' | 'rollback', gates?: boolean, strike?: { signal: NodeJS.Signals, at?: string, sparse?: boolean, met: string[] } }} */
const { url, name, id, ask, gates, strike } = JSON.parse(readFileSync(0, 'utf8'));
const met = new Set(strike?.met);
const wanted = new RegExp(strike?.at ?? '');
let state = 'taking over';
/** Whether its token has just been put on the row, and the state that it found then. */
let taking = false;
let ofStep;
/** Said last. */
let rested;
/** Struck once: whoever is continued goes on like any other. */
let struck = false;

/** Statements that change nothing, here or in the server: struck at one is struck after the last that did. */
const READS = /^\s*(SELECT|SET|the extension)\b/;
/** What a SELECT may do all the same: lock rows, set what the session keeps, end a backend, call what writes. */
const EFFECTS =
  /\bFOR (NO KEY )?UPDATE\b|\bFOR (KEY )?SHARE\b|\b(set_config|nextval|setval|pg_notify|pg_(cancel|terminate)_backend|pg_\w*advisory\w*)\s*\(|\bfreshvec\.\w+\s*\(/;

/** Statements whose effect outlives who sent them, outside of a transaction, or that go on in the server. */
const LASTS = /^\s*(COMMIT|CREATE|DROP|ALTER|VACUUM|DELETE FROM freshvec.singleton)\b/;

/** By the first of its 64 digits: a quarter before, a quarter sent, the rest not at all. */
const sparsely = (digest) => (digest < 'E' ? 'before' : digest < 'U' ? 'sent' : undefined);

/** Whether this is where to strike; says so if it is. `undone`: with the transaction that it is in. */
function strikesAt(when, sql, undone = false) {
  if (!strike || struck || (READS.test(sql) && !EFFECTS.test(sql))) return false;
  const text = sql
    .replaceAll(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '*')
    .replaceAll(/_gone_\d+/g, '_gone_#')
    .replaceAll(/\s+/g, ' ');
  const digest = (what) => createHash('sha1').update(what).digest('base64').slice(0, 12);
  if (strike.sparse && (undone || !LASTS.test(text)) && when !== sparsely(digest(text))) return false;
  const key = digest(`${state} ${when} ${text}`);
  const label = `${state}, ${when}: ${text.slice(0, 200)}`;
  if (met.has(key) || !wanted.test(label)) return false;
  struck = true;
  say({ key, state, label });
  return true;
}

function say(line) {
  writeSync(1, `${JSON.stringify(line)}\n`);
}

/** It has the migration in this state; at the beginning of a step if its token was put on the row for that. */
function learn(now) {
  state = now;
  if (!taking) return;
  taking = false;
  if (ofStep === now) restsIn(now);
  ofStep = now;
}

function restsIn(now) {
  if (rested !== now) say({ rests: now });
  rested = now;
}

async function run(sql, send, undone) {
  taking ||= sql.trimStart().startsWith('UPDATE freshvec.migration SET token');
  if (strikesAt('before', sql, undone)) process.kill(process.pid, strike.signal);
  const sent = strikesAt('sent', sql, undone);
  const answer = send();
  if (sent) await strikeLater(answer);
  const rows = await answer;
  if (Array.isArray(rows) && rows[0] && 'drop_space' in rows[0]) learn(rows[0].state);
  return rows;
}

/** After a moment for the bytes to leave; the server may be at it still, or done. */
async function strikeLater(answer) {
  answer.catch(() => {});
  await sleep(5);
  process.kill(process.pid, strike.signal);
}

const real = await openDatabase({ kind: 'postgres', url, poolSize: 4, applicationName: name, onError: () => {} });
const watched = (executor, undone) => ({
  query: (sql, params) => run(sql, () => executor.query(sql, params), undone),
});
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
          return watched(tx, true).query(sql, params);
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

/** Loaded by whoever measures: most do not, and start sooner. */
async function realGates() {
  const [{ createGates }, { DEFAULT_GATES }, { runGates }, { createModels }] = await Promise.all([
    import('../../../dist/src/budget/gates.js'),
    import('../../../dist/src/config/config.js'),
    import('../../../dist/src/reembed/gates/run.js'),
    import('../../../dist/src/worker/models.js'),
  ]);
  const budget = createGates(db, {}, () => {});
  const models = createModels({ requestTimeoutMs: 5_000 });
  return (of) => runGates({ ...of, db, models, budget, settings: DEFAULT_GATES });
}

const deps = {
  db,
  runGates: gates ? await realGates() : async () => [],
  throttle: async () => ({ share: 1, signals: [] }),
  index: { maintenanceWorkMem: undefined, parallelWorkers: undefined },
};
const stop = new AbortController().signal;
if (ask) {
  await { cutover, rollback }[ask](db, 'doc');
  process.exit(0);
}
let woke = false;
for (;;) {
  // As `startReembedder` does.
  const restMs = await controlMigration(deps, id, stop).catch((error) => {
    writeSync(2, `${error?.stack ?? error}\n`);
  });
  if (struck && !woke) say({ woke: true });
  woke = struck;
  // Not where another one is at work, or this one failed.
  if (restMs !== undefined) restsIn(state);
  await sleep(20);
}
