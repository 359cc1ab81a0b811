import type { CaptureTarget } from '../capture/index.js';
import type { Space } from '../catalog/space.js';
import type { VectorExtension } from '../db/database.js';
import type { Hazards } from './hazards.js';
import { ADVISED_PGVECTOR, isOlder } from './refuse.js';

/** What a person should know before saying yes: what the source does to the app that owns the table. */
export function notesFor(
  space: Space,
  target: CaptureTarget,
  hazards: Hazards,
  extension: VectorExtension,
  settings: { readonly preparedTransactions: boolean },
): string[] {
  return [
    ...(space.store === 'column' ? columnNotes(space, hazards) : tableNotes(hazards)),
    ...(target.relations.length > 1
      ? [
          'A partition that is added later is captured through its parent at once, and directly after the next maintenance.',
        ]
      : []),
    ...(settings.preparedTransactions
      ? ['max_prepared_transactions is not 0: workers poll, because a transaction that notified could not be prepared.']
      : []),
    ...(isOlder(extension.version, ADVISED_PGVECTOR)
      ? [
          `pgvector ${extension.version} works; ${ADVISED_PGVECTOR.join('.')} or later mends faults of its index. Upgrade when you can.`,
        ]
      : []),
  ];
}

function columnNotes(space: Space, { updateTriggers }: Hazards): string[] {
  const columns = ['', '_model', '_hash', '_stale'].map((suffix) => `${space.column}${suffix}`).join(', ');
  return [
    `The table gets the columns ${columns}: COPY and INSERT without a column list, and prepared SELECT *, meet them.`,
    'Workers UPDATE the rows: a REPEATABLE READ transaction that read a row before may fail to update it, and FOR UPDATE NOWAIT may find it locked.',
    ...(updateTriggers.length === 0
      ? []
      : [
          `Workers' UPDATEs fire the table's own triggers (${updateTriggers.join(', ')}): updated_at moves, audit rows follow. ` +
            'A column that such a trigger sets must not be in the content: it would be embedded for ever. `--store table` avoids all of this.',
        ]),
  ];
}

function tableNotes({ updateTriggers, publications, allTables }: Hazards): string[] {
  const reasons = [
    ...(updateTriggers.length > 0 ? [`it has UPDATE triggers of its own (${updateTriggers.join(', ')})`] : []),
    ...(publications.length > 0 ? [`it is published (${publications.join(', ')})`] : []),
  ];
  return [
    "The table gets no column: vectors are in freshvec's own table, and deletes are captured too.",
    ...(reasons.length > 0 ? [`A table of vectors of its own is right here, since ${reasons.join(' and ')}.`] : []),
    ...(allTables.length > 0
      ? [
          `The publication ${allTables.join(', ')} is FOR ALL TABLES and takes in freshvec's own: its subscribers need them, or should be given a list of tables.`,
        ]
      : []),
  ];
}
