import { expect } from 'vitest';
import type { Source } from '../../../src/catalog/source.js';
import type { Space } from '../../../src/catalog/space.js';
import type { Database } from '../../../src/db/database.js';
import { ident } from '../../../src/db/identifiers.js';
import { abort, complete, cutover, resumeMigration, rollback } from '../../../src/reembed/control.js';
import { TRANSITIONS } from '../../../src/reembed/states.js';
import { vectorRelations } from '../../../src/store/own-index.js';
import { vectorTable } from '../../../src/store/table.js';
import type { Fixture } from '../../support/fixture.js';

/** What people ask of a migration. */
export const ASK = { abort, complete, cutover, resume: resumeMigration, rollback } as const;

/** A log, by triggers, of all that is written about migrations: who (application_name), and under which token. */
export async function logMigrations(db: Database): Promise<void> {
  await db.exec(`
    CREATE SCHEMA IF NOT EXISTS oracle;
    CREATE TABLE oracle.migration_log (
      id bigint GENERATED ALWAYS AS IDENTITY, app text DEFAULT current_setting('application_name'),
      what text, token uuid, state text
    );
    CREATE FUNCTION oracle.migration_written() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF TG_TABLE_NAME = 'migration_event' THEN
        INSERT INTO oracle.migration_log (what, token, state)
        SELECT 'event', m.token, NEW.state FROM freshvec.migration m WHERE m.id = NEW.migration_id;
      ELSE
        INSERT INTO oracle.migration_log (what, token, state)
        VALUES (CASE WHEN OLD.token IS DISTINCT FROM NEW.token THEN 'take' ELSE 'write' END, NEW.token, NEW.state);
      END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER oracle_log AFTER UPDATE ON freshvec.migration
      FOR EACH ROW EXECUTE FUNCTION oracle.migration_written();
    CREATE TRIGGER oracle_log AFTER INSERT ON freshvec.migration_event
      FOR EACH ROW EXECUTE FUNCTION oracle.migration_written()`);
}

/** Invariant F: whatever a controller wrote about a migration, it wrote while its own token was on the row. */
export async function assertOneController(db: Database): Promise<void> {
  const foreign = await db.query(
    `SELECT w.app, w.what, w.state FROM oracle.migration_log w
     WHERE w.app LIKE 'controller-%' AND w.what <> 'take' AND NOT EXISTS (
       SELECT FROM oracle.migration_log t WHERE t.what = 'take' AND t.app = w.app AND t.token = w.token)
     ORDER BY w.id`,
  );
  expect(foreign).toEqual([]);
  const [all] = await db.query<{ n: number }>(
    `SELECT count(*) AS n FROM oracle.migration_log WHERE app LIKE 'controller-%' AND what <> 'take'`,
  );
  expect(all?.n).toBeGreaterThan(0);
}

/** Every state on record follows from the one before by an event of the table of states. */
export async function assertHistory(db: Database, migrationId: number): Promise<void> {
  const events = await db.query<{ state: keyof typeof TRANSITIONS }>(
    'SELECT state FROM freshvec.migration_event WHERE migration_id = $1 ORDER BY id',
    [migrationId],
  );
  const states = events.map(({ state }) => state).filter((state, i, all) => state !== all[i - 1]);
  for (const [i, state] of states.entries()) {
    const before = states[i - 1];
    if (before === undefined || before === 'parked') continue;
    const next = Object.values(TRANSITIONS[before]).map((outcome) =>
      typeof outcome === 'object' && 'to' in outcome ? outcome.to : undefined,
    );
    // The table has the end of a contraction as `done`; that of an abort is told by what is dropped.
    if (!(before === 'contracting' && state === 'aborted')) expect(next, `after ${before}`).toContain(state);
  }
}

/** The former holder's lease has run out: what passes is the database's clock. For when it is dead or stopped. */
export async function expireSingletons(db: Database): Promise<void> {
  await db.query(`UPDATE freshvec.singleton SET expires_at = clock_timestamp() - interval '1 second'`);
}

/**
 * Invariant C of one space, by the tables themselves and the model: `doc (id, body)`. `text`: SQL over the row, what is
 * embedded; a blank one has no vector.
 */
export async function assertSpaceFresh(
  { db, models }: Fixture,
  source: Source,
  space: Space,
  text = 'body',
): Promise<void> {
  const onRows = space.store === 'column';
  const wanted = `COALESCE(${text}, 'no such row')`;
  const rows = await db.query<{ id: number; text: string; vector: number[] | null; model: string; right: boolean }>(
    onRows
      ? `SELECT id, ${wanted} AS text, ${ident(space.column)}::real[] AS vector, ${ident(`${space.column}_model`)} AS model,
           ${ident(`${space.column}_hash`)} = md5(${text})::uuid AS right FROM doc ORDER BY id`
      : `SELECT id, ${wanted} AS text, v.embedding::real[] AS vector, v.model, v.hash = md5(${text})::uuid AS right
         FROM doc FULL JOIN ${vectorTable(space)} v USING (id) ORDER BY id`,
  );
  expect(rows.length).toBeGreaterThan(0);
  const model = await models.get(space.spec);
  const { vectors } = await model.embed(
    rows.map((row) => row.text),
    { purpose: 'document', signal: new AbortController().signal },
  );
  const wrong = rows.filter(({ text: of, vector, model: by, right }, i) => {
    if (of.trim() === '') return vector !== null || by !== null;
    const should = vectors[i];
    return !right || by !== space.fingerprint || !should || !vector?.every((x, at) => Math.fround(x) === should[at]);
  });
  expect(wrong.map(({ id, text: of, model: by, right }) => ({ id, of, by, right }))).toEqual([]);
  if (source.flagColumn !== undefined) {
    const flagged = await db.query(`SELECT id FROM doc WHERE ${ident(source.flagColumn)}`);
    expect(flagged).toEqual([]);
  }
}

/**
 * What a source with this one space alone has, and nothing of any other: by the catalog. `own`: the app's columns;
 * `index`: `any` where it may be missing, for it is somebody else's to build.
 */
export async function assertNothingElse(
  db: Database,
  source: Source,
  space: Space,
  own: readonly string[],
  { index = 'valid' }: { readonly index?: 'valid' | 'any' } = {},
): Promise<void> {
  const onRows = space.store === 'column';
  const columns = await db.query<{ name: string }>(
    `SELECT attname AS name FROM pg_attribute WHERE attrelid = 'doc'::regclass AND attnum > 0 AND NOT attisdropped`,
  );
  const added = onRows ? [space.column, `${space.column}_model`, `${space.column}_hash`, source.flagColumn] : [];
  expect(columns.map(({ name }) => name).sort()).toEqual([...own, ...added].sort());
  const tables = await db.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relnamespace = 'freshvec'::regnamespace AND relname ~ '^vector_[0-9]+$' AND relkind = 'r'`,
  );
  expect(tables.map(({ name }) => name)).toEqual(onRows ? [] : [`vector_${space.id}`]);
  const indexes = await db.query<{ name: string; valid: boolean }>(
    `SELECT c.relname AS name, i.indisvalid AND i.indisready AND i.indislive AS valid
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'hnsw'
     ORDER BY 1`,
  );
  const wanted = (await vectorRelations(db, source, space)).map((relation) => ({ name: relation.index, valid: true }));
  const names = wanted.sort((a, b) => (a.name < b.name ? -1 : 1));
  expect(indexes).toEqual(index === 'any' && indexes.length === 0 ? [] : names);
  const triggers = await db.query<{ name: string; spaces: string; fn: string }>(
    `SELECT t.tgname AS name, p.proname AS fn, encode(t.tgargs, 'escape') AS spaces
     FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
     WHERE t.tgrelid = 'doc'::regclass AND p.pronamespace = 'freshvec'::regnamespace AND NOT t.tgisinternal`,
  );
  expect(new Set(triggers.map(({ fn }) => fn)).size).toBe(triggers.length);
  const foreign = triggers.filter(({ spaces }) => spaces !== '' && spaces !== `${space.id}\\000`);
  expect(foreign).toEqual([]);
  const left = await db.query(
    `SELECT 'change' AS what, space_id FROM freshvec.change UNION SELECT 'lease', space_id FROM freshvec.lease
     UNION SELECT 'range', space_id FROM freshvec.range UNION SELECT 'failure', space_id FROM freshvec.failure`,
  );
  expect(left).toEqual([]);
}
