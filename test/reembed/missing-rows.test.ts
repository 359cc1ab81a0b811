import { expect, test } from 'vitest';
import { getMigration } from '../../src/catalog/migration.js';
import * as control from '../../src/reembed/control.js';
import { coverageGate, readCoverage } from '../../src/reembed/gates/coverage.js';
import type { ControllerDeps } from '../../src/reembed/operation.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { start, stepUntil, workUntil } from './support.js';

const GONE_AGAIN = /each time that they were visited rows were missing again .*\.freshvec_\w+/;

test('edits that freshvec does not hear of park the move, and say which triggers are off', async () => {
  const fixture = await openFixture();
  const { db } = fixture;
  try {
    await db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text);
      INSERT INTO doc SELECT i, 'text number ' || i FROM generate_series(1, 30) i`);
    await fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none' });
    await fixture.work();
    const { id } = await start(fixture, 'doc', { model: 'fake/b@12' });
    await stepUntil(fixture, id, 'backfilling');
    await db.exec('ALTER TABLE doc DISABLE TRIGGER USER');
    let edits = 0;
    const runGates = gatesAfter(fixture, () => db.query(`UPDATE doc SET body = $1 WHERE id = 1`, [`edit ${++edits}`]));
    await expect(workUntil(fixture, id, ['ready'], { runGates })).rejects.toThrow(GONE_AGAIN);
    expect(await getMigration(db, id)).toMatchObject({ state: 'parked', parkedState: 'verifying' });
    expect(edits).toBe(4);

    await db.exec('ALTER TABLE doc ENABLE TRIGGER USER');
    await control.resumeMigration(db, 'doc');
    expect(await workUntil(fixture, id, ['ready'], { runGates })).toMatchObject({ state: 'ready' });
  } finally {
    await fixture.close();
  }
});

/** Coverage as it is after the app has edited once more. */
function gatesAfter({ db }: Fixture, edit: () => Promise<unknown>): ControllerDeps['runGates'] {
  return async ({ source, to, signal }) => {
    await edit();
    return [coverageGate(await readCoverage({ db, source, to, signal }))];
  };
}
