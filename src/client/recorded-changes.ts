import type { Database } from '../db/database.js';
import { EmbedError } from '../embed/port.js';
import { recordedChange } from '../embed/probe.js';

/** How long the record's word on a model holds, in ms: searches come often, a change once in a model's life. */
const KEEP_MS = 1000;

/** Throws EmbedError `model_changed` where a probe has put on record that the model is not that of the stored vectors. */
export type RefuseChanged = (db: Database, fingerprint: string) => Promise<void>;

/** Looks at most once a second for each model. */
export function createRefuseChanged(): RefuseChanged {
  const known = new Map<string, { readonly at: number; readonly reason: Promise<string | undefined> }>();
  return async (db, fingerprint) => {
    let record = known.get(fingerprint);
    if (record === undefined || performance.now() - record.at >= KEEP_MS) {
      // A record that cannot be read refuses nobody: what is wrong with the database the search itself will meet.
      record = { at: performance.now(), reason: recordedChange(db, fingerprint).catch(() => undefined) };
      known.set(fingerprint, record);
    }
    const reason = await record.reason;
    if (reason === undefined) return;
    throw new EmbedError('model_changed', `${reason} Until then searches by text are refused; those by vector go on.`);
  };
}
