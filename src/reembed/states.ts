import type { Migration, MigrationState } from '../catalog/migration.js';
import type { SpaceState } from '../catalog/space.js';

/** What happens to a migration: the controller's own steps, and what people ask for. */
export type MigrationEvent =
  /** The controller: what the state is for is done. */
  | 'advance'
  /** The controller, or whoever alters the source: rows are to be visited, and what was measured holds no more. */
  | 'recede'
  /** The controller: somebody renamed or dropped what it stands on, or it failed too often. */
  | 'park'
  | 'cutover'
  | 'rollback'
  | 'complete'
  | 'abort'
  | 'resume';

/** The state that follows; `same`: it is so already; a text: refused, with what to do instead. */
export type Outcome = { readonly to: MigrationState } | 'same' | { readonly refused: string };

const to = (state: MigrationState): Outcome => ({ to: state });
const no = (refused: string): Outcome => ({ refused });

const NOT_READY = 'its vectors are not all there and checked yet; `freshvec reembed status` says how far it is';
const NOTHING_SWITCHED = 'nothing was switched: searches are answered from the old space';
const ENDED = 'it has ended';
const CONTRACTING = 'a space is being dropped: there is no way back from here';
const CONTROLLER = 'only the controller does this';
const NOT_DONE_YET = 'it is not switched: `cutover` comes first';

/** A migration that is parked goes on from `parkedState`, and a paused one is not stepped: neither is in this table. */
export const TRANSITIONS: Readonly<Record<MigrationState, Readonly<Record<MigrationEvent, Outcome>>>> = {
  planned: before({ advance: to('expanding'), abort: to('aborted') }),
  expanding: before({ advance: to('backfilling') }),
  backfilling: before({ advance: to('indexing') }),
  indexing: before({ advance: to('verifying') }),
  verifying: before({ advance: to('ready'), recede: to('backfilling') }),
  ready: before({ recede: to('backfilling'), cutover: to('soaking') }),
  soaking: {
    advance: to('contracting'),
    recede: no(CONTROLLER),
    park: to('parked'),
    cutover: 'same',
    rollback: to('rolled_back'),
    complete: to('contracting'),
    abort: no('searches are answered from the new space: `rollback` first, then `abort`'),
    resume: 'same',
  },
  rolled_back: {
    advance: no(CONTROLLER),
    recede: no(CONTROLLER),
    park: to('parked'),
    cutover: to('soaking'),
    rollback: 'same',
    complete: no('it was rolled back: `cutover` switches again, `abort` drops the new space'),
    abort: to('contracting'),
    resume: 'same',
  },
  contracting: {
    advance: to('done'),
    recede: no(CONTROLLER),
    park: to('parked'),
    cutover: no(CONTRACTING),
    rollback: no(CONTRACTING),
    complete: 'same',
    abort: 'same',
    resume: 'same',
  },
  done: ended({ complete: 'same' }),
  aborted: ended({ abort: 'same' }),
  parked: {
    advance: no(CONTROLLER),
    recede: no(CONTROLLER),
    park: 'same',
    cutover: no('it is parked: `resume` first, or `abort`'),
    rollback: no('it is parked: `resume` first'),
    complete: no('it is parked: `resume` first'),
    abort: to('contracting'),
    resume: to('parked'), // To `parkedState`; see control.ts.
  },
};

/** States before the switch: they differ in what comes next. */
function before(own: Partial<Record<MigrationEvent, Outcome>>): Record<MigrationEvent, Outcome> {
  return {
    advance: no(CONTROLLER),
    recede: no(CONTROLLER),
    park: to('parked'),
    cutover: no(NOT_READY),
    rollback: no(NOTHING_SWITCHED),
    complete: no(NOT_DONE_YET),
    abort: to('contracting'),
    resume: 'same',
    ...own,
  };
}

function ended(own: Partial<Record<MigrationEvent, Outcome>>): Record<MigrationEvent, Outcome> {
  const all = no(ENDED);
  return {
    advance: all,
    recede: all,
    park: all,
    cutover: all,
    rollback: all,
    complete: all,
    abort: all,
    resume: all,
    ...own,
  };
}

/** What holds for as long as a migration is in a state; tests check it after every step. `absent`: no row, or dropped. */
export interface Invariants {
  /** The space that the pointer names. */
  readonly live: 'from' | 'to';
  readonly from: readonly (SpaceState | 'absent')[];
  readonly to: readonly (SpaceState | 'absent')[];
}

/**
 * Numbered, as the tests name them:
 *  I1 the pointer names exactly the space that is `live`;
 *  I2 while a migration is not ended, the space that is live is one of its two;
 *  I3 both spaces are maintained (edits enqueue for both) from the end of expanding until contracting;
 *  I4 only contracting drops anything, and never the live space;
 *  I5 the epoch grows by one with each switch, and by nothing else;
 *  I6 a source has one migration that is not ended, at most.
 */
export const INVARIANTS: Readonly<Record<Exclude<MigrationState, 'parked'>, Invariants>> = {
  planned: { live: 'from', from: ['live'], to: ['absent'] },
  expanding: { live: 'from', from: ['live'], to: ['absent'] },
  backfilling: { live: 'from', from: ['live'], to: ['building'] },
  indexing: { live: 'from', from: ['live'], to: ['building'] },
  verifying: { live: 'from', from: ['live'], to: ['building'] },
  ready: { live: 'from', from: ['live'], to: ['ready'] },
  soaking: { live: 'to', from: ['retained'], to: ['live'] },
  rolled_back: { live: 'from', from: ['live'], to: ['retained'] },
  contracting: {
    live: 'from',
    from: ['live', 'retained', 'dropped'],
    to: ['absent', 'building', 'ready', 'live', 'retained', 'dropped'],
  },
  done: { live: 'to', from: ['dropped', 'absent'], to: ['live'] },
  aborted: { live: 'from', from: ['live'], to: ['dropped', 'absent'] },
};

/** What a contraction ends in: the old space was dropped, or the new one. */
export function endOfContraction({
  dropSpaceId,
  toSpaceId,
}: Pick<Migration, 'dropSpaceId' | 'toSpaceId'>): 'done' | 'aborted' {
  return dropSpaceId === toSpaceId ? 'aborted' : 'done';
}

/** The outcome of an event, with what depends on the row: where a parked migration goes on from. */
export function outcomeOf(
  migration: Pick<Migration, 'state' | 'parkedState' | 'dropSpaceId' | 'toSpaceId'>,
  event: MigrationEvent,
): Outcome {
  if (migration.state === 'parked' && event === 'resume') return to(migration.parkedState ?? 'backfilling');
  // A parked contraction has dropped something already: its end is the only way.
  if (migration.state === 'parked' && event === 'abort' && migration.parkedState === 'contracting')
    return to('contracting');
  // Both spaces were fresh: what is left of the ground may do for one of them, and a person may choose that one.
  const { parkedState } = migration;
  if (
    (parkedState === 'soaking' || parkedState === 'rolled_back') &&
    ['cutover', 'rollback', 'complete', 'abort'].includes(event)
  )
    return TRANSITIONS[parkedState][event];
  const dropsNew = endOfContraction(migration) === 'aborted';
  if (migration.state === 'contracting' && event === (dropsNew ? 'complete' : 'abort')) {
    return no(
      dropsNew ? 'it was aborted: the new space is being dropped' : 'it was completed: the old space is being dropped',
    );
  }
  if (migration.state === 'contracting' && event === 'advance') {
    return to(endOfContraction(migration));
  }
  return TRANSITIONS[migration.state][event];
}
