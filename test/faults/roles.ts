import pg from 'pg';
import type { Fixture } from '../support/fixture.js';

/** A login role of a test's own; roles belong to the whole server, so its name is found nowhere else. */
export interface Role {
  readonly name: string;
  /** The fixture's database, as this role. */
  readonly url: string;
  drop(): Promise<void>;
}

export async function createRole({ db, url }: Fixture, options = ''): Promise<Role> {
  const name = `fv_role_${Math.random().toString(36).slice(2, 10)}`;
  await db.exec(`CREATE ROLE ${name} LOGIN PASSWORD '${name}' ${options}`);
  const own = new URL(url);
  own.username = name;
  own.password = name;
  return {
    name,
    url: own.href,
    drop: () => db.exec(`REASSIGN OWNED BY ${name} TO CURRENT_USER; DROP OWNED BY ${name}; DROP ROLE ${name}`),
  };
}

/** One connection as this role, for as long as `fn` takes. */
export async function as<T>({ url }: Role, fn: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await fn(client);
  } finally {
    await client.end();
  }
}
