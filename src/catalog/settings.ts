import type { Executor } from '../db/database.js';

/** Facts that every process must agree on. */
export type SettingName = 'queue_backend' | 'installation';

export async function getSetting(db: Executor, name: SettingName): Promise<string | undefined> {
  const [row] = await db.query<{ value: string }>('SELECT value FROM freshvec.setting WHERE name = $1', [name]);
  return row?.value;
}

/** Records a setting unless it is recorded already; resolves to the value that holds. */
export async function recordSetting(db: Executor, name: SettingName, value: string): Promise<string> {
  await db.query('INSERT INTO freshvec.setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING', [
    name,
    value,
  ]);
  return (await getSetting(db, name)) ?? value;
}
