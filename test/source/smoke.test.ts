import { expect, test } from 'vitest';
import { planSql, removeSource } from '../../src/source/index.js';
import { addSource, ENGINES, takeChanges } from '../capture/support.js';

test.for(ENGINES)('smoke %s', async ([, open]) => {
  const s = await open();
  try {
    await s.db.query('CREATE TABLE memory (id bigint PRIMARY KEY, title text, body text, n int)');
    await s.db.query(`INSERT INTO memory SELECT i, 't'||i, 'b' FROM generate_series(1, 10) i`);
    for (const store of ['column', 'table'] as const) {
      const plan = await addSource(s.db, {
        table: 'memory',
        content: { columns: ['title', 'body'] },
        store,
        where: 'n IS NULL or n < 7',
      });
      console.log(planSql(plan), plan);
      await s.db.query(`INSERT INTO memory VALUES (11, 'x')`);
      console.log(await takeChanges(s.db));
      await s.db.query(`UPDATE memory SET n = 3 WHERE id = 1`);
      await s.db.query(`UPDATE memory SET title = 'new' WHERE id = 2`);
      await s.db.query(`DELETE FROM memory WHERE id = 11`);
      console.log(await takeChanges(s.db), await s.db.query('select * from freshvec.range'));
      await removeSource(s.db, 'memory', { dropVectors: true });
    }
    expect(1).toBe(1);
  } finally {
    await s.close();
  }
});
