import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Space } from '../../src/catalog/space.js';
import { openDatabase } from '../../src/db/open.js';
import type { PlanSettings, ReembedDefinition, ReembedPlan } from '../../src/reembed/definition.js';
import { factOf, planReembed } from '../../src/reembed/plan.js';
import { startReembed } from '../../src/reembed/start.js';
import { ensureIndex } from '../../src/store/build-index.js';
import { eventually } from '../support/eventually.js';
import { type Engine, type Fixture, openFixture } from '../support/fixture.js';
import { start, workUntil } from './support.js';

let fixture: Fixture;

const plan = async (definition: ReembedDefinition, settings: PlanSettings = {}, source = 'doc'): Promise<ReembedPlan> =>
  planReembed(fixture.db, source, definition, await fixture.models.get(definition.model ?? 'fake/a@8'), settings);

/** A fact that must be known. */
function known(of: ReembedPlan, name: Parameters<typeof factOf>[1]): number {
  const value = factOf(of, name);
  if (typeof value !== 'number') throw new Error(`${name} is ${value}`);
  return value;
}

async function one<T>(sql: string, params: unknown[] = []): Promise<T> {
  const [row] = await fixture.db.query<{ value: T }>(sql, params);
  if (!row) throw new Error('no row');
  return row.value;
}

const noteWith = (of: ReembedPlan, part: RegExp) => of.notes.filter((note) => part.test(note));

async function documents(rows: number, extra = ''): Promise<void> {
  await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, kind text${extra});
    INSERT INTO doc (id, body, kind) SELECT i, 'text number ' || i, 'x' FROM generate_series(1, ${rows}) i`);
}

const add = (over: Partial<Parameters<Fixture['add']>[0]> = {}) =>
  fixture.add({ table: 'doc', content: { columns: ['body'] }, model: 'fake/a@8', index: 'none', ...over });

describe.each<Engine>(['postgres', 'pglite'])('a plan on %s', (engine) => {
  beforeEach(async () => {
    fixture = await openFixture(engine);
  });
  afterEach(() => fixture.close());

  it('says all that there is to say, and the SQL of every step', async () => {
    await documents(50);
    await add({ index: 'hnsw' });
    const it = await plan({ model: 'fake/b@12' });
    expect(it.blockers).toEqual([]);
    expect(it).toMatchObject({ rows: 50, copies: false, cost: 0 });
    expect(it.tokens).toBeGreaterThan(50);
    expect(it.facts.map(({ name }) => name)).toEqual([
      ...['seconds', 'providerSeconds', 'writeSeconds', 'buildSeconds', 'diskBytes', 'deadBytes', 'indexBytes'],
      ...['peakBytes', 'freeBytes', 'graphBytes', 'buildWorkers', 'walRowBytes', 'walBytes', 'hotShare', 'fillfactor'],
      ...['backfillHotShare', 'locks', 'partitions', 'triggers', 'pgvector', 'replicas'],
    ]);
    expect(factOf(it, 'pgvector')).toBe((await fixture.db.vectorExtension())?.version);
    const later = it.later.map(({ sql }) => sql).join('\n');
    for (const part of [
      /CREATE INDEX CONCURRENTLY "?freshvec_space_2"? ON/,
      /UPDATE freshvec.pointer SET epoch = epoch \+ 1, space_id = 2/,
      /DROP INDEX CONCURRENTLY IF EXISTS .*freshvec_space_1/,
      /SET "?embedding"? = NULL/,
      /VACUUM/,
      /DROP COLUMN IF EXISTS "?embedding"?,/,
    ]) {
      expect(later).toMatch(part);
    }
    expect(it.statements.map(({ sql }) => sql).join('\n')).toMatch(/ADD COLUMN IF NOT EXISTS "?embedding_2"?/);
  });

  it('changes nothing, not even a counter', async () => {
    const { db } = fixture;
    await documents(50);
    await add();
    const state = async () => {
      const tables = await db.query<{ name: string }>(
        `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname IN ('freshvec', 'public') ORDER BY 1`,
      );
      const rows: Record<string, unknown> = {};
      for (const { name } of tables) {
        rows[name] = await one(`SELECT COALESCE(json_agg(t.* ORDER BY t::text), '[]') AS value FROM ${name} t`);
      }
      return {
        rows,
        sequences: await db.query(`SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2`),
        catalog: await one(
          `SELECT md5(string_agg(c.oid || relname || relnatts || reltriggers::text, ',' ORDER BY c.oid)) AS value
           FROM (SELECT oid, relname, relnatts, relhastriggers AS reltriggers FROM pg_class WHERE relname NOT LIKE 'pg_%') c`,
        ),
        triggers: await one('SELECT count(*) AS value FROM pg_trigger'),
        functions: await one('SELECT count(*) AS value FROM pg_proc'),
      };
    };
    const before = await state();
    for (const store of ['column', 'table'] as const) await plan({ model: 'fake/b@12', store });
    expect(await state()).toEqual(before);
  });

  it('shows the id that the start then takes', async () => {
    await documents(5);
    await add();
    const planned = await plan({ model: 'fake/b@12', store: 'table' });
    const { toSpaceId } = await startReembed(fixture.db, planned);
    expect(planned.to.id).toBe(0);
    expect(planned.statements.map(({ sql }) => sql).join()).toMatch(new RegExp(`TABLE .*vector_${toSpaceId}\\b`));
  });

  it.each([
    { store: 'column', dimensions: 256, type: 'vector', analysed: true },
    { store: 'column', dimensions: 256, type: 'halfvec', analysed: false },
    { store: 'column', dimensions: 768, type: 'vector', analysed: true },
    { store: 'table', dimensions: 256, type: 'vector', analysed: false },
    { store: 'table', dimensions: 1536, type: 'vector', analysed: true },
  ] as const)('predicts disk and index: $type($dimensions), $store, analysed: $analysed', async (shape) => {
    const { db } = fixture;
    const rows = engine === 'postgres' ? 2000 : 300;
    await documents(rows);
    const { source, space: live } = await add();
    if (shape.analysed) await db.exec('ANALYZE doc');
    const planned = await plan({
      model: `fake/b@${shape.dimensions}`,
      store: shape.store,
      type: shape.type,
      index: 'hnsw',
    });
    await fixture.work();
    await db.session((session) => session.query('VACUUM FULL doc'));
    const sizeOf = async (space: Space) =>
      one<number>(`SELECT pg_total_relation_size($1::text::regclass) AS value`, [
        space.store === 'column' ? 'doc' : `freshvec.vector_${space.id}`,
      ]);
    const before = shape.store === 'column' ? await sizeOf(live) : 0;
    const migration = await start(fixture, 'doc', {
      ...{ model: `fake/b@${shape.dimensions}`, store: shape.store, type: shape.type },
    });
    await workUntil(fixture, migration.id, ['ready']);
    const after = await sizeOf(migration.target);
    const near = (predicted: number, real: number) => {
      expect(predicted / real).toBeGreaterThan(0.7);
      expect(predicted / real).toBeLessThan(1.3);
    };
    // Old versions of rows may have been pruned, or not.
    const grown = after - before;
    const disk = known(planned, 'diskBytes');
    expect(grown).toBeGreaterThan(0.7 * disk);
    expect(grown).toBeLessThan(1.3 * (disk + (shape.store === 'column' ? known(planned, 'deadBytes') : 0)));
    await ensureIndex(db, source, { ...migration.target, index: { kind: 'hnsw', m: 16, efConstruction: 64 } });
    near(
      known(planned, 'indexBytes'),
      await one<number>(`SELECT pg_relation_size($1::text::regclass) AS value`, [
        `${shape.store === 'column' ? 'public' : 'freshvec'}.freshvec_space_${migration.toSpaceId}`,
      ]),
    );
  });
});

describe('a plan on a server', () => {
  beforeEach(async () => {
    fixture = await openFixture();
  });
  afterEach(() => fixture.close());

  const onColumns = { model: 'fake/b@12', store: 'column' } as const;
  const onTable = { model: 'fake/b@12', store: 'table' } as const;

  it.each([
    { name: 'too many dimensions', definition: { model: 'fake/b@3072' }, blocker: /at most 2000 dimensions.*halfvec/ },
    { name: 'the space that it has', definition: { model: 'fake/a@8' }, blocker: /has this model, store, type/ },
    {
      name: 'a publication of all columns',
      sql: 'CREATE PUBLICATION everything FOR TABLE doc',
      definition: onColumns,
      blocker: /publication everything/,
    },
    {
      name: 'no room for columns',
      sql: `DO $$ BEGIN EXECUTE (SELECT 'ALTER TABLE doc ' || string_agg('ADD COLUMN c' || i || ' int', ', ') FROM generate_series(1, 1590) i);
            EXECUTE (SELECT 'ALTER TABLE doc ' || string_agg('DROP COLUMN c' || i, ', ') FROM generate_series(1, 1590) i); END $$`,
      definition: onColumns,
      blocker: /has had 159\d columns.*--store table/,
    },
    {
      name: 'a database that may not grow',
      definition: onColumns,
      settings: { throttle: { diskPath: null, diskUsedShare: 0.9, maxDatabaseBytes: 1000 } },
      blocker: /of disk, and 0\.0 MB are free/,
    },
    {
      name: 'a disk that is full enough',
      definition: onColumns,
      settings: { throttle: { diskPath: '/', diskUsedShare: 0.000001, maxDatabaseBytes: null } },
      blocker: /of disk, and 0\.0 MB are free.*diskPath/,
    },
  ])('is refused by $name', async ({ sql, definition, settings, blocker }) => {
    await documents(20);
    await add({ index: 'hnsw' });
    expect((await plan(onTable)).blockers).toEqual([]);
    if (sql) await fixture.db.exec(sql);
    const { blockers } = await plan(definition, settings);
    expect(blockers).toEqual([expect.stringMatching(blocker)]);
  });

  it('is refused by a pgvector that is too old, and warned of one with faults', async () => {
    await documents(20);
    await add();
    const by = async (version: string) => {
      await fixture.db.query(`UPDATE pg_extension SET extversion = $1 WHERE extname = 'vector'`, [version]);
      const other = await openDatabase({
        ...{ kind: 'postgres', url: fixture.url, poolSize: 2, applicationName: 'test', onError: () => {} },
      });
      try {
        return await planReembed(other, 'doc', onTable, await fixture.models.get('fake/b@12'));
      } finally {
        await other.close();
      }
    };
    expect((await by('0.7.4')).blockers).toEqual([expect.stringMatching(/pgvector 0\.7\.4 is too old/)]);
    const faulty = await by('0.8.3');
    expect(faulty.blockers).toEqual([]);
    expect(noteWith(faulty, /pgvector 0\.8\.3 works; 0\.8\.4/)).toHaveLength(1);
    expect(noteWith(await by('0.8.4'), /pgvector/)).toEqual([]);
  });

  it('is refused while another one goes on', async () => {
    await documents(20);
    await add();
    await start(fixture, 'doc', onTable);
    expect((await plan({ model: 'fake/c@16' })).blockers).toEqual([
      expect.stringMatching(/re-embedded already.*abort/),
    ]);
  });

  it('is refused to a role that sees too little, may too little, or only reads', async () => {
    await documents(20);
    // PostgreSQL cannot be asked what a filter reads where nothing can be written.
    await add({ where: 'id > 0' });
    const { db, url, models } = fixture;
    const [{ name: database } = { name: '' }] = await db.query<{ name: string }>('SELECT current_database() AS name');
    const role = `plan_${database}`.slice(0, 60);
    await db.exec(`CREATE ROLE ${role} LOGIN PASSWORD 'x'; GRANT USAGE ON SCHEMA freshvec TO ${role};
      GRANT SELECT ON ALL TABLES IN SCHEMA freshvec TO ${role}; GRANT USAGE ON ALL SEQUENCES IN SCHEMA freshvec TO ${role};
      GRANT SELECT ON doc TO ${role}; ALTER TABLE doc ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON doc USING (id < 10);
      ALTER ROLE ${role} SET default_transaction_read_only = on`);
    const theirs = new URL(url);
    theirs.username = role;
    theirs.password = 'x';
    const other = await openDatabase({
      ...{ kind: 'postgres', url: theirs.href, poolSize: 2, applicationName: 'test', onError: () => {} },
    });
    try {
      const { blockers, statements, later } = await planReembed(other, 'doc', onTable, await models.get('fake/b@12'));
      expect(blockers).toEqual([
        expect.stringMatching(/does not own it.*GRANT/),
        expect.stringMatching(/row-level security hides rows.*BYPASSRLS/),
        expect.stringMatching(/read-only for the role/),
        expect.stringMatching(/may not create a table in the schema freshvec.*GRANT CREATE/),
      ]);
      expect([...statements, ...later]).toEqual([]);
    } finally {
      await other.close();
      await db.exec(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });

  it('takes no lock that a write of the app waits for, and waits for none', async () => {
    await documents(20);
    await add({ content: { sql: `body || ' ' || kind` }, where: `kind <> 'y'` });
    await fixture.db.session(async (app) => {
      // Every lock that ACCESS SHARE goes along with, and the row locks of an app at work.
      await app.query('BEGIN');
      await app.query('LOCK TABLE doc IN EXCLUSIVE MODE');
      await app.query(`UPDATE doc SET body = 'in the app' WHERE id = 1`);
      for (const definition of [onColumns, onTable]) expect((await plan(definition)).blockers).toEqual([]);
      await app.query('ROLLBACK');
    });
  });

  it("names the app's triggers, partitions, replicas' slots and vector indexes, and what to do", async () => {
    await fixture.db.exec(`CREATE TABLE doc (id int PRIMARY KEY, body text, kind text) PARTITION BY RANGE (id);
      CREATE TABLE doc_1 PARTITION OF doc FOR VALUES FROM (0) TO (100);
      CREATE TABLE doc_2 PARTITION OF doc FOR VALUES FROM (100) TO (1000);
      INSERT INTO doc SELECT i, 'text number ' || i, 'x' FROM generate_series(1, 300) i;
      CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER touched BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION touch()`);
    const { source, space } = await add({ store: 'column', index: 'hnsw' });
    await fixture.work();
    await ensureIndex(fixture.db, source, space);
    const planned = await plan(onColumns);
    expect(planned.blockers).toEqual([]);
    expect(factOf(planned, 'partitions')).toBe(2);
    expect(factOf(planned, 'triggers')).toBe('touched');
    expect(factOf(planned, 'locks')).toMatch(/ACCESS EXCLUSIVE on public.doc and its 2 partitions .* at most 100 ms/);
    expect(noteWith(planned, /touched.*--store table/)).toHaveLength(1);
    expect(noteWith(planned, /not cleared.*VACUUM FULL/)).toHaveLength(1);
    const walNote = (of: typeof planned) => of.facts.find(({ name }) => name === 'walBytes')?.note;
    expect(walNote(planned)).not.toMatch(/rewrites each row/);
    await fixture.db.exec('DROP TRIGGER touched ON doc');
    expect(walNote(await plan(onColumns))).toMatch(/`complete` rewrites each row once more/);
    await fixture.db.exec('CREATE TRIGGER touched BEFORE UPDATE ON doc FOR EACH ROW EXECUTE FUNCTION touch()');
    expect(noteWith(planned, /vector index .*freshvec_space_1.*--store table/)).toHaveLength(1);
    const later = planned.later.map(({ sql }) => sql).join('\n');
    expect(later).toMatch(/CREATE INDEX .*freshvec_space_2"? ON ONLY/);
    expect(later.match(/CREATE INDEX CONCURRENTLY/g)).toHaveLength(2);
    expect(later.match(/ATTACH PARTITION/g)).toHaveLength(2);
    expect(later).not.toMatch(/ = NULL|VACUUM/);
    const aside = await plan(onTable);
    expect(factOf(aside, 'triggers')).toBe('none');
    expect(noteWith(aside, /touched|vector index/)).toEqual([]);
    expect(known(aside, 'walRowBytes')).toBeLessThan(known(planned, 'walRowBytes'));
    expect(known(aside, 'writeSeconds')).toBeLessThan(known(planned, 'writeSeconds'));
    expect(aside.later.map(({ sql }) => sql).join('\n')).toMatch(/CREATE INDEX CONCURRENTLY .*vector_2/);
  });

  it.each([
    { from: 'column', to: 'table', locks: /SHARE ROW EXCLUSIVE .* while expanding, .*ACCESS EXCLUSIVE .* contracting/ },
    { from: 'table', to: 'column', locks: /ACCESS EXCLUSIVE .* while expanding and contracting/ },
    { from: 'table', to: 'table', locks: /SHARE ROW EXCLUSIVE .* while expanding and contracting/ },
  ] as const)('names the locks of both ends: $from to $to', async ({ from, to, locks }) => {
    await documents(20);
    await add({ store: from });
    const planned = await plan({ model: 'fake/b@12', store: to });
    expect(factOf(planned, 'locks')).toMatch(locks);
    // What is said is what the statements take.
    const strong = (statements: ReembedPlan['later']) =>
      statements.some(({ lock }) => lock.startsWith('ACCESS EXCLUSIVE on public.doc'));
    expect([strong(planned.statements), strong(planned.later)]).toEqual([to === 'column', from !== to]);
  });

  it('counts in that a backfill beside an index that is searched works a part of the time', async () => {
    await documents(300);
    const { source, space } = await add({ index: 'hnsw' });
    await fixture.work();
    const settings = { throttle: { indexedShare: 0.25 } };
    const timeOf = async (more: PlanSettings) => {
      const planned = await plan({ model: 'fake/b@12', store: 'table' }, more);
      const { note } = planned.facts.find(({ name }) => name === 'seconds') ?? {};
      return { busy: known(planned, 'seconds') - known(planned, 'buildSeconds'), note };
    };
    const free = await timeOf(settings);
    expect(free.note).toMatch(/^unthrottled/);
    await ensureIndex(fixture.db, source, space);
    const held = await timeOf(settings);
    expect(held.busy).toBeCloseTo(4 * free.busy, 6);
    expect(held.note).toMatch(/^at 25 % of the time, .*throttle\.indexedShare/);
    expect((await timeOf({ throttle: { indexedShare: null } })).busy).toBeCloseTo(free.busy, 6);
    // What the day's money allows is not a matter of pace.
    const paid = await fixture.models.get('fake/b@12');
    const priced = {
      ...paid,
      spec: 'openai/x@12',
      fingerprint: 'openai/x@12#0',
      pricePerMillionTokens: 1e6,
      countTokens: () => 1,
    };
    const days = await planReembed(fixture.db, 'doc', { store: 'table' }, priced, {
      ...settings,
      account: 'k',
      spendPerDay: 100,
    });
    expect(known(days, 'providerSeconds')).toBe(2 * 86_400);
    expect(known(days, 'seconds') - known(days, 'buildSeconds')).toBe(2 * 86_400);
  });

  it('measures HOT updates, and says what the fillfactor would change', async () => {
    await documents(1000);
    await add();
    await fixture.work();
    await fixture.db.exec(`ANALYZE doc`);
    await fixture.db.query('UPDATE doc SET kind = $1 WHERE id <= 200', ['z']);
    // Sessions tell what they did when they next come to rest, or 10 s later.
    const counted = (updates: number) =>
      eventually(
        async () => {
          const [row] = await fixture.db.query<{ updates: number; hot: number }>(
            `SELECT n_tup_upd AS updates, n_tup_hot_upd AS hot FROM pg_stat_user_tables WHERE relname = 'doc'`,
          );
          return row !== undefined && row.updates >= updates && row;
        },
        { timeoutMs: 40_000, what: `${updates} updates` },
      );
    const before = await counted(1200);
    const full = await plan(onColumns);
    expect(factOf(full, 'hotShare')).toBeCloseTo(before.hot / before.updates, 6);
    expect(factOf(full, 'fillfactor')).toBe(100);
    expect(factOf(full, 'backfillHotShare')).toBe(0);
    const [note] = noteWith(full, /fillfactor/);
    const best = Number(/fillfactor = (\d+)/.exec(note ?? '')?.[1]);
    expect(best).toBeGreaterThan(30);
    expect(best).toBeLessThan(60);
    await fixture.db.exec(`ALTER TABLE doc SET (fillfactor = ${best})`);
    await fixture.db.session((session) => session.query('VACUUM FULL doc'));
    const half = await plan(onColumns);
    expect(known(half, 'backfillHotShare')).toBeGreaterThan(0.9);
    const { id } = await start(fixture, 'doc', onColumns);
    await workUntil(fixture, id, ['ready']);
    const after = await counted(before.updates + 1000);
    const real = (after.hot - before.hot) / (after.updates - before.updates);
    expect(real).toBeGreaterThan(known(half, 'backfillHotShare') - 0.25);
    expect(real).toBeGreaterThan(2 * known(half, 'hotShare'));
  });

  it('says where the graph of the index does not fit, and the SQL that makes room', async () => {
    await documents(3000);
    await add();
    const { db } = fixture;
    const small = { maintenanceWorkMem: '1MB', parallelWorkers: 0 };
    const tight = await plan({ ...onTable, index: 'hnsw' }, { index: small });
    expect(known(tight, 'graphBytes')).toBeGreaterThan(2 ** 20);
    expect(known(tight, 'buildWorkers')).toBe(0);
    const [note] = noteWith(tight, /does not fit into memory/);
    const wanted = /maintenance_work_mem = '(\d+MB)'/.exec(note ?? '')?.[1];
    expect(wanted).toBeDefined();
    const roomy = await plan({ ...onTable, index: 'hnsw' }, { index: { ...small, maintenanceWorkMem: wanted } });
    expect(noteWith(roomy, /does not fit/)).toEqual([]);
    expect(known(roomy, 'buildSeconds')).toBeLessThan(known(tight, 'buildSeconds'));
    // pgvector itself says when its graph spills.
    await db.exec(`CREATE TABLE v AS SELECT array_agg(random())::vector(12) AS e
      FROM generate_series(1, 3000) i, generate_series(1, 12) GROUP BY i`);
    const spills = async (memory: string) => {
      const client = new pg.Client({ connectionString: fixture.url });
      const notices: string[] = [];
      client.on('notice', ({ message }) => notices.push(message ?? ''));
      await client.connect();
      try {
        await client.query('SET max_parallel_maintenance_workers = 0');
        await client.query(`SET maintenance_work_mem = '${memory}'`);
        await client.query('CREATE INDEX v_e ON v USING hnsw (e vector_cosine_ops)');
        await client.query('DROP INDEX v_e');
      } finally {
        await client.end();
      }
      return notices.some((notice) => notice.includes('no longer fits'));
    };
    expect([await spills('1MB'), await spills(wanted ?? '')]).toEqual([true, false]);
  });

  it('takes the time from the limits of the account, the day and the model', async () => {
    await documents(600);
    await add();
    const { db } = fixture;
    const provider = async (settings: PlanSettings, price?: number) =>
      planReembed(
        db,
        'doc',
        onTable,
        {
          ...(await fixture.models.get('fake/b@12')),
          spec: 'openai/x@12',
          pricePerMillionTokens: price,
          countTokens: () => 100,
        },
        settings,
      );
    const unknown = await provider({ account: 'key x' });
    expect(factOf(unknown, 'providerSeconds')).toBeNull();
    // 60,000 tokens.
    const capped = await provider({ account: 'key x', budget: { tokensPerMinute: 30_000 } });
    expect(known(capped, 'providerSeconds')).toBe(120);
    expect(known(capped, 'seconds')).toBeGreaterThanOrEqual(120);
    const byRequests = await provider({
      account: 'key x',
      budget: { requestsPerMinute: 6 },
      embedLimits: { maxInputs: 10, maxTokensPerRequest: 1e6 },
    });
    expect(known(byRequests, 'providerSeconds')).toBe(600);
    // As the gate of the budget sizes requests: a claim at most, 10,000 tokens while their limit is not known.
    const byClaims = await provider({ account: 'key x', budget: { requestsPerMinute: 1 }, batchKeys: 50 });
    expect(known(byClaims, 'providerSeconds')).toBe(60 * 12);
    const byTokens = await provider({ account: 'key x', budget: { requestsPerMinute: 1 }, batchKeys: 200 });
    expect(known(byTokens, 'providerSeconds')).toBe(60 * 6);
    const both = { requestsPerMinute: 30, tokensPerMinute: 60_000 };
    const limited = await provider({ account: 'key x', budget: both, batchKeys: 200 });
    expect(known(limited, 'providerSeconds')).toBe(60); // 2,000 tokens a request, as even as the limits are.
    await db.query(`INSERT INTO freshvec.account (account, tokens_limit, share, resumes_at, reason)
      VALUES ('key x', 20000, 0.5, now() + interval '1 hour', 'a 429')`);
    const shared = await provider({ account: 'key x', budget: { tokensPerMinute: 30_000 } });
    expect(known(shared, 'providerSeconds')).toBe(360);
    expect(noteWith(shared, /left alone.*a 429/)).toHaveLength(1);
    const paid = await provider({ account: 'key y', spendPerDay: 1 }, 50);
    expect(paid.cost).toBeCloseTo(3, 6);
    expect(known(paid, 'providerSeconds')).toBe(2 * 86_400);
    expect(noteWith(paid, /over 3 days/)).toHaveLength(1);
    const texts: string[][] = [];
    const local = await plan(onTable, { embed: async (given) => void texts.push([...given]) });
    expect(texts.flat()).toContainEqual(expect.stringMatching(/^text number \d+$/));
    expect(known(local, 'providerSeconds')).toBeGreaterThan(0);
    const copy = await plan({ model: 'fake/a@8', type: 'halfvec' }, { account: 'key x' });
    expect(copy).toMatchObject({ copies: true, tokens: 0, cost: 0 });
    expect(known(copy, 'providerSeconds')).toBe(0);
  });
});

// Alone in its server: on a shared one the WAL of other tests would be counted too.
describe('the WAL of a plan', () => {
  beforeEach(async () => {
    fixture = await openFixture('pglite');
  });
  afterEach(() => fixture.close());

  it.each([
    { store: 'column', live: 'none' },
    { store: 'column', live: 'hnsw' },
    { store: 'table', live: 'hnsw' },
  ] as const)('predicts the WAL of a row: into the $store, live index $live', async ({ store, live }) => {
    const { db } = fixture;
    await documents(1000);
    const { source, space } = await add({ index: live });
    await fixture.work();
    await ensureIndex(db, source, space);
    await db.exec('ANALYZE doc');
    const definition = { model: 'fake/b@256', store, index: 'none' } as const;
    const planned = await plan(definition);
    const { id } = await start(fixture, 'doc', definition);
    const before = await one<string>('SELECT pg_current_wal_insert_lsn()::text AS value');
    await workUntil(fixture, id, ['ready']);
    const written = await one<number>(
      'SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $1::pg_lsn)::float8 AS value',
      [before],
    );
    const predicted = known(planned, 'walBytes') / written;
    expect(predicted).toBeGreaterThan(0.5);
    expect(predicted).toBeLessThan(2);
  });
});
