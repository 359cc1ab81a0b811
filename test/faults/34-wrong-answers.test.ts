import { expect, test } from 'vitest';
import { eventually } from '../support/eventually.js';
import type { Fault } from '../support/standin/faults.js';
import { TIMEOUT_MS, withFaultyProvider } from './support/system.js';
import { eachTry } from './support/tries.js';
import { assertVectorsTrue, keepVectors } from './support/written.js';

const ANSWERS: readonly Fault[] = [
  { kind: 'short' },
  // Valid: each vector names its place.
  { kind: 'reordered' },
  { kind: 'wrong_dimension' },
  { kind: 'nan' },
  { kind: 'null' },
  { kind: 'all_zero' },
  { kind: 'not_json' },
  { kind: 'half_json' },
  { kind: 'html', status: 200 },
  { kind: 'cut_off' },
];
/** Requests that each hits. */
const TIMES = 2;

test('fault 34: answer short, reordered by index, of wrong dimension, NaN, null, all zero, not JSON, cut off [C]', {
  timeout: TIMEOUT_MS,
}, async (context) => {
  await withFaultyProvider({ rows: 100, app: { hides: false } }, async (system) => {
    const { provider, workers, app, db } = system;
    const { standin } = provider;
    await keepVectors(db);
    app.start();
    await workers.start();
    await eachTry(context, ANSWERS, async (fault) => {
      const before = standin.stats().faults[fault.kind] ?? 0;
      standin.set({ faults: [{ ...fault, times: TIMES }] });
      const hit = () => (standin.stats().faults[fault.kind] ?? 0) >= before + TIMES;
      await eventually(hit, { timeoutMs: 40_000, what: `${TIMES} answers of this kind` });
      await system.probe();
      const [blame] = await db.query(
        `SELECT (SELECT count(*)::int FROM freshvec.failure) AS failures,
           (SELECT COALESCE(max(attempts), 0)::int FROM freshvec.lease) AS attempts`,
      );
      expect(blame).toEqual({ failures: 0, attempts: 0 });
    });
    await app.stop();
    await system.assertFresh();
    await assertVectorsTrue(db, standin.texts.keys(), provider.vectorOf);
    app.assertUndisturbed();
  });
});
