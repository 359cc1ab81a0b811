import { applySchema, type QueueBackend } from '../../src/catalog/schema.js';
import type { Database } from '../../src/db/database.js';
import { openModel } from '../../src/embed/open.js';
import { applySource, planSource, type SourceDefinition } from '../../src/source/index.js';

export async function prepare(db: Database, queueBackend: QueueBackend = 'postgres'): Promise<void> {
  await applySchema(db, { queueBackend });
}

/** Makes a table a source, as `freshvec source add --yes` does; resolves to the id of its space. */
export async function addSource(db: Database, definition: SourceDefinition): Promise<number> {
  const openai = { baseUrl: process.env.OPENAI_BASE_URL };
  const model = await openModel(definition.model, { requestTimeoutMs: 30_000, openai });
  const plan = await planSource(db, definition, model);
  await applySource(db, plan);
  return plan.space.id;
}

/** SQL for a table `id, body, n` with this many rows of short texts, about twelve words each. */
export function tableSql(table: string, rows: number): string {
  return `CREATE TABLE ${table} (id bigint PRIMARY KEY, body text NOT NULL, n int NOT NULL DEFAULT 0);
    INSERT INTO ${table} (id, body) ${textsSql(1, rows)};`;
}

export function textsSql(from: number, to: number): string {
  return `SELECT i, 'Note ' || i || ': the quick brown fox ' || md5(i::text) || ' jumps over the lazy dog again'
    FROM generate_series(${from}, ${to}) i`;
}
