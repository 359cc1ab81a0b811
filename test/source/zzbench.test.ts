import { test } from 'vitest';
import pg from 'pg';
import { startPostgres } from '../support/servers.js';
import { openDatabase } from '../../src/db/open.js';
import { applySchema } from '../../src/catalog/schema.js';
import { addSource } from '../capture/support.js';

test('bench', { timeout: 600_000 }, async () => {
  const server = await startPostgres({ durable: true, settings: { autovacuum: 'off' } });
  const db = await openDatabase({ kind: 'postgres', url: server.url, poolSize: 4, applicationName: 'b', onError: () => undefined });
  try {
    await applySchema(db, { queueBackend: 'postgres' });
    const time = async (sql: string) => { const t = performance.now(); await db.query(sql); return performance.now() - t; };
    for (const t of ['plain', 'col', 'tab']) {
      await db.query(`CREATE TABLE ${t} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text, body text, n int DEFAULT 0)`);
    }
    await addSource(db, { table: 'col', content: { columns: ['title', 'body'] }, store: 'column' });
    await addSource(db, { table: 'tab', content: { columns: ['title', 'body'] }, store: 'table' });
    const res: Record<string, Record<string, number[]>> = {};
    for (let round = 0; round < 3; round++) {
      for (const t of ['plain', 'col', 'tab']) {
        await db.query(`TRUNCATE ${t} RESTART IDENTITY`); await db.query('TRUNCATE freshvec.change'); await db.query('CHECKPOINT');
        const r = (res[t] ??= {});
        const put = async (k: string, sql: string) => (r[k] ??= []).push(Math.round(await time(sql)));
        await put('insert', `INSERT INTO ${t} (title, body) SELECT 'title ' || i, repeat('some body text ', 10) || i FROM generate_series(1, 200000) i`);
        if (t === 'col') await db.query(`UPDATE col SET embedding_stale = false`);
        else await db.query(`UPDATE ${t} SET n = 0`);
        await db.query(`VACUUM ANALYZE ${t}`); await db.query('TRUNCATE freshvec.change'); await db.query('CHECKPOINT');
        await put('content', `UPDATE ${t} SET body = body || 'x'`);
        if (t === 'col') await db.query(`UPDATE col SET embedding_stale = false`);
        else await db.query(`UPDATE ${t} SET n = 0`);
        await db.query(`VACUUM ANALYZE ${t}`); await db.query('TRUNCATE freshvec.change'); await db.query('CHECKPOINT');
        await put('other', `UPDATE ${t} SET n = n + 1`);
      }
    }
    const med = (a: number[] | undefined) => [...(a ?? [])].sort((x, y) => x - y)[1] ?? 0;
    for (const t of ['col', 'tab']) for (const k of ['insert', 'content', 'other']) console.log(t, k, res[t]?.[k], 'plain', res.plain?.[k], (med(res[t]?.[k]) / med(res.plain?.[k])).toFixed(2));
    console.log('changes', await db.query('select count(*) from freshvec.change'));
    // single-row edits, 32 clients
    await db.query(`UPDATE col SET embedding_stale = false`); await db.query('VACUUM plain'); await db.query('VACUUM col'); await db.query('VACUUM tab');
    for (const n of [4, 32]) {
    const clients = await Promise.all(Array.from({ length: n }, async () => { const c = new pg.Client({ connectionString: server.url }); await c.connect(); return c; }));
    const run = async (t: string, set: string, ms = 4000) => {
      const end = performance.now() + ms; let count = 0;
      await Promise.all(clients.map(async (c) => { while (performance.now() < end) { await c.query({ name: t + set, text: `UPDATE ${t} SET ${set} WHERE id = $1`, values: [1 + Math.floor(Math.random() * 200000)] }); count++; } }));
      return Math.round(count / ms * 1000);
    };
    const base = Number((await db.query<{m: number}>('select min(id) m from plain'))[0]?.m); console.log(base);
    for (const set of [`title = md5(random()::text)`, `n = n + 1`]) for (let round = 0; round < 3; round++) {
      await db.query('TRUNCATE freshvec.change'); await db.query('CHECKPOINT');
      const p = await run('plain', set), c = await run('col', set), tb = await run('tab', set);
      console.log(n, set, p, c, (c / p).toFixed(2), tb, (tb / p).toFixed(2));
    }
    await Promise.all(clients.map((c) => c.end()));
    }
  } finally { await db.close(); await server.stop(); }
});
