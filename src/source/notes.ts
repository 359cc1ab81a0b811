import type { CaptureTarget } from '../capture/index.js';
import type { Space } from '../catalog/space.js';
import type { VectorExtension } from '../db/database.js';
import { ident } from '../db/identifiers.js';
import type { Hazards } from './hazards.js';
import { ADVISED_PGVECTOR, isOlder } from './refuse.js';

/** What a person should know before saying yes: what the source does to the app that owns the table. */
export function notesFor(
  space: Space,
  target: CaptureTarget,
  hazards: Hazards,
  extension: VectorExtension,
  settings: { readonly preparedTransactions: boolean; readonly takesUp: boolean },
): string[] {
  return [
    ...(space.store === 'column' ? columnNotes(space, hazards) : tableNotes(hazards)),
    ...(settings.takesUp
      ? [
          "Vectors that an earlier source left in freshvec's own table are taken up again: those whose text is the same are not paid for, whatever is estimated here.",
        ]
      : []),
    ...hazards.allTables.map(
      (name) =>
        `The publication ${name} is FOR ALL TABLES and sends freshvec's own tables too, whose every row passes through it: subscribers that do not have them stop. ` +
        `Publish the app's schemas instead: CREATE PUBLICATION app FOR TABLES IN SCHEMA ${ident(target.source.relation.schema)}; ` +
        `then, on each subscriber, ALTER SUBSCRIPTION … SET PUBLICATION app; then DROP PUBLICATION ${ident(name)};`,
    ),
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
    'PostgreSQL refuses ALTER COLUMN … TYPE for a column that the source reads, as for any that a trigger names: `source remove`, alter, and `source add` again takes the vectors up.',
    'Workers UPDATE the rows: a REPEATABLE READ transaction that read a row before may fail to update it, and FOR UPDATE NOWAIT may find it locked.',
    ...(updateTriggers.length === 0
      ? []
      : [
          `Workers' UPDATEs fire the table's own triggers (${updateTriggers.join(', ')}): updated_at moves, audit rows follow. ` +
            'A column that such a trigger sets must not be in the content: its rows would be set aside as never at rest. `--store table` avoids all of this.',
        ]),
  ];
}

function tableNotes({ updateTriggers, publications }: Hazards): string[] {
  const reasons = [
    ...(updateTriggers.length > 0 ? [`it has UPDATE triggers of its own (${updateTriggers.join(', ')})`] : []),
    ...(publications.length > 0 ? [`it is published (${publications.join(', ')})`] : []),
  ];
  return [
    "The table gets no column: vectors are in freshvec's own table, and deletes are captured too.",
    ...(reasons.length > 0 ? [`A table of vectors of its own is right here, since ${reasons.join(' and ')}.`] : []),
  ];
}
