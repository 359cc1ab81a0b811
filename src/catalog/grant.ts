import type { Database } from '../db/database.js';
import { FreshvecError } from '../db/errors.js';
import { ident } from '../db/identifiers.js';

/** What a client reads before it searches or waits for a row; none of it holds content. */
const READ = ['schema_version', 'setting', 'source', 'space', 'pointer', 'failure', 'long_text', 'probe'];

/**
 * What the role of an app needs of freshvec, beside its rights on its own tables, to enqueue, to search and to wait until
 * a row is fresh. It lets nobody write but through `freshvec.enqueue`.
 */
export function grantSql(role: string): string[] {
  const to = `TO ${ident(role)}`;
  return [
    `GRANT USAGE ON SCHEMA freshvec ${to}`,
    `GRANT EXECUTE ON FUNCTION freshvec.enqueue(text, text, boolean), freshvec.key_text(int, jsonb) ${to}`,
    `GRANT SELECT ON ${READ.map((table) => `freshvec.${table}`).join(', ')} ${to}`,
  ];
}

/** Runs `grantSql`, all of it or nothing. Throws FreshvecError `privilege_missing`. */
export async function grantTo(db: Database, role: string): Promise<void> {
  await db.tx(async (tx) => {
    const [schema] = await tx.query<{ owner: string; owned: boolean }>(
      `SELECT pg_get_userbyid(nspowner) AS owner, pg_has_role(nspowner, 'USAGE') AS owned
       FROM pg_namespace WHERE nspname = 'freshvec'`,
    );
    // To others PostgreSQL gives a warning, and grants nothing.
    if (schema && !schema.owned) {
      throw new FreshvecError(
        'privilege_missing',
        `Only the role ${schema.owner}, which owns freshvec's schema, may grant.`,
      );
    }
    for (const sql of grantSql(role)) await tx.query(sql);
  });
}
