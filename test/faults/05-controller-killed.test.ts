import { beforeAll, test } from 'vitest';
import { ensureBuilt } from './support/build.js';
import { killOn, type Path, restingHalfWay } from './support/kill-at-each.js';

/**
 * A controller is killed (SIGKILL, a process of its own) before it sends a statement, the next one a little later, once
 * the statement was sent: at every statement of every state, COMMIT included, until one gets through to the end. A
 * statement that changes nothing is passed over: who is killed there is killed after the last one that did. Each
 * continues where its predecessor was killed, and is killed at the first boundary at which none was before. That the dead
 * one's lease of 30 s runs out is the database's clock, which is put on.
 *
 * The first way is struck at every boundary, the others at every one that leaves something behind, and at some of those
 * that are undone. Ways that go wrong: the second file of 05.
 */
const PATHS: readonly Path[] = [
  {
    name: 'column to column, back and forth, to the end, with the real gates',
    from: 'column',
    to: 'column',
    gates: true,
    turns: [
      { in: 'ready', does: 'cutover' },
      { in: 'soaking', does: 'rollback' },
      { in: 'rolled_back', does: 'cutover' },
      { in: 'soaking', does: 'complete' },
    ],
    end: 'done',
    atLeast: 180,
  },
  {
    name: 'column to table, resting half-way: the flag and the columns go',
    from: 'column',
    to: 'table',
    options: { until: 0.3 },
    turns: [...restingHalfWay('resume'), { in: 'ready', does: 'cutover' }, { in: 'soaking', does: 'complete' }],
    end: 'done',
    sparse: true,
    atLeast: 60,
  },
  {
    name: 'a partitioned table, column to column, to the end',
    from: 'column',
    to: 'column',
    table: `CREATE TABLE doc (id int PRIMARY KEY, body text NOT NULL) PARTITION BY HASH (id);
      CREATE TABLE doc_a PARTITION OF doc FOR VALUES WITH (MODULUS 2, REMAINDER 0);
      CREATE TABLE doc_b PARTITION OF doc FOR VALUES WITH (MODULUS 2, REMAINDER 1)`,
    // The build of one leaf is struck more often than it has tries.
    parksFor: /3 builds came to no end/,
    turns: [
      { in: 'ready', does: 'cutover' },
      { in: 'soaking', does: 'complete' },
    ],
    end: 'done',
    sparse: true,
    atLeast: 70,
  },
];

beforeAll(ensureBuilt, 180_000);

test.for(PATHS)(
  'fault 05: migration controller killed at every statement boundary in turn: $name [F O C]',
  { timeout: 600_000 },
  killOn,
);
