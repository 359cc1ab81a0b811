import { beforeAll, test } from 'vitest';
import type { Fixture } from '../support/fixture.js';
import { builder, openTransaction } from './index-builds.js';
import { ensureBuilt } from './support/build.js';
import { killOn, type Path, restingHalfWay } from './support/kill-at-each.js';

/** As in the first file of 05, on ways that nobody sees to, that are given up, or that somebody takes the ground from. */

/** A column is renamed by somebody, and back. */
const renames = (from: string, to: string) => (fixture: Fixture) =>
  fixture.db.exec(`ALTER TABLE doc RENAME ${from} TO ${to}`);

/** A build waits for a writer whose transaction is open, for as long as the test likes. */
function heldBuild(): Path {
  let writer: Awaited<ReturnType<typeof openTransaction>> | undefined;
  return {
    name: 'column to column, aborted in mid-build',
    from: 'column',
    to: 'column',
    turns: [
      {
        in: 'backfilling',
        async does({ url }) {
          writer = await openTransaction(url, 'BEGIN', `INSERT INTO doc VALUES (1000, 'held')`);
        },
      },
      { in: 'indexing', does: 'abort', when: async ({ db }) => (await builder(db)) !== undefined },
      {
        in: 'contracting',
        when: async ({ db }) => (await builder(db)) === undefined,
        async does() {
          await writer?.query('COMMIT');
          await writer?.end();
        },
      },
    ],
    end: 'aborted',
    sparse: true,
    atLeast: 40,
  };
}

const PATHS: readonly Path[] = [
  {
    name: 'table to table, by itself: --auto and --retain',
    from: 'table',
    to: 'table',
    options: { auto: true, retainSeconds: 1 },
    turns: [],
    end: 'done',
    sparse: true,
    atLeast: 50,
  },
  {
    name: 'table to column, aborted',
    from: 'table',
    to: 'column',
    turns: [{ in: 'ready', does: 'abort' }],
    end: 'aborted',
    sparse: true,
    atLeast: 50,
  },
  {
    name: 'column to table, aborted half-way',
    from: 'column',
    to: 'table',
    options: { until: 0.3 },
    turns: restingHalfWay('abort'),
    end: 'aborted',
    sparse: true,
    atLeast: 35,
  },
  heldBuild(),
  {
    name: 'column to column, parked before and after the switch, resumed, to the end',
    from: 'column',
    to: 'column',
    turns: [
      { in: 'backfilling', does: renames('embedding_2', 'mine') },
      { in: 'parked', does: renames('mine', 'embedding_2') },
      { in: 'parked', does: 'resume' },
      { in: 'ready', does: 'cutover' },
      { in: 'soaking', does: renames('embedding', 'mine') },
      { in: 'parked', does: renames('mine', 'embedding') },
      { in: 'parked', does: 'resume' },
      { in: 'soaking', does: 'complete' },
    ],
    end: 'done',
    sparse: true,
    atLeast: 55,
  },
];

beforeAll(ensureBuilt, 180_000);

test.for(PATHS)(
  'fault 05: migration controller killed at every statement boundary in turn: $name [F O C]',
  { timeout: 600_000 },
  killOn,
);
