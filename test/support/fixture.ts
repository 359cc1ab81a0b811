import { createGates } from '../../src/budget/gates.js';
import { applySchema } from '../../src/catalog/schema.js';
import type { Source } from '../../src/catalog/source.js';
import { liveSpace, type Space } from '../../src/catalog/space.js';
import type { Database } from '../../src/db/database.js';
import { openDatabase } from '../../src/db/open.js';
import { applySource, planSource, type SourceDefinition } from '../../src/source/index.js';
import type { DrainReport } from '../../src/stages/context.js';
import { openStore } from '../../src/store/index.js';
import type { Store } from '../../src/store/port.js';
import { vectorCodec } from '../../src/store/vector-codec.js';
import { createModels, type Models } from '../../src/worker/models.js';
import { drainOnce } from '../../src/worker/once.js';
import { freshDatabase, type TestDatabase } from './database.js';
import { freshEmbedded } from './embedded.js';

export type Engine = 'postgres' | 'pglite';

/** A database of a test's own, with freshvec's schema, and models that need no network. */
export interface Fixture {
  readonly db: Database;
  /** Empty for PGlite. */
  readonly url: string;
  readonly models: Models;
  add(definition: SourceDefinition): Promise<{ source: Source; space: Space; store: Store }>;
  /** Works everything off, as `work --once` does. */
  work(): Promise<DrainReport>;
  close(): Promise<void>;
}

/** `database`: one that is there already and empty but for pgvector, such as on a server of the test's own. */
export async function openFixture(engine: Engine = 'postgres', database?: TestDatabase): Promise<Fixture> {
  const fresh = engine === 'postgres' ? (database ?? (await freshDatabase())) : undefined;
  const db = fresh
    ? await openDatabase({ kind: 'postgres', url: fresh.url, poolSize: 8, applicationName: 'test', onError: () => {} })
    : await freshEmbedded();
  await applySchema(db, { queueBackend: engine });
  const models = createModels({ requestTimeoutMs: 5_000 });
  const gates = createGates(db, {}, () => {});
  return {
    db,
    url: fresh?.url ?? '',
    models,
    async add(definition) {
      const plan = await planSource(db, definition, await models.get(definition.model));
      await applySource(db, plan);
      const live = await liveSpace(db, plan.source.id);
      const extension = await db.vectorExtension();
      if (!live || !extension) throw new Error('the source has no live space');
      const store = openStore(plan.source, live.space, await vectorCodec(db, extension));
      return { source: plan.source, space: live.space, store };
    },
    work: () =>
      drainOnce({
        db,
        models,
        gates,
        slots: engine === 'postgres' ? 3 : 1,
        batchKeys: 50,
        signal: new AbortController().signal,
      }),
    async close() {
      await models.close();
      await gates.close();
      await db.close();
      await fresh?.drop();
    },
  };
}
