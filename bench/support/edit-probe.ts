import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from 'pg';
import type { StoreKind } from '../../src/catalog/space.js';
import type { Table } from './tables.js';

/** Between two edits, and between two looks whether the last one is there, in ms. */
const EVERY_MS = 1_000;
const LOOK_MS = 10;

/** Edits a row now and then until stopped, and follows each edit until a search of either space would find its text. */
export function editProbe(client: Client, table: Table, store: StoreKind): { stop(): Promise<number[]> } {
  const ms: number[] = [];
  const stopped = new AbortController();
  const loop = (async () => {
    for (let n = 0; !stopped.signal.aborted; n++) {
      const row = table.followed(n);
      await client.query(`UPDATE ${table.name} SET body = $1 WHERE ${row}`, [`Followed edit ${n} of ${row}`]);
      const committed = performance.now();
      while (!(await isInBoth(client, table, store, row))) await sleep(LOOK_MS);
      ms.push(performance.now() - committed);
      await sleep(EVERY_MS, undefined, { signal: stopped.signal }).catch(() => {});
    }
  })();
  loop.catch(() => {}); // Seen where it is stopped.
  return {
    async stop() {
      stopped.abort();
      await loop;
      return ms;
    },
  };
}

/** The second space is the target of a bench's only migration. */
async function isInBoth(client: Client, table: Table, store: StoreKind, row: string): Promise<boolean> {
  const second = store === 'column' ? 'embedding_2_hash' : '(SELECT hash FROM freshvec.vector_2 v WHERE v.id = t.id)';
  const { rows } = await client.query<{ there: boolean | null }>(
    `SELECT embedding_hash = md5(body)::uuid AND ${second} = md5(body)::uuid AS there FROM ${table.name} t WHERE ${row}`,
  );
  return rows[0]?.there === true;
}
