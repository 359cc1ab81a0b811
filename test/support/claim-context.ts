import type { Database } from '../../src/db/database.js';
import { ClaimCursor } from '../../src/stages/claim-cursor.js';
import type { claimNext } from '../../src/stages/claim-next.js';
import { emptyReport } from '../../src/stages/context.js';
import { LoadDuty } from '../../src/stages/load-duty.js';
import { LongVisit } from '../../src/stages/long-visit.js';
import { createPace } from '../../src/stages/pace.js';
import type { Store } from '../../src/store/port.js';

/** What `claimNext` is handed, as one worker's first drain of a space has it. */
export function claimContext(db: Database, store: Store, batchKeys: number): Parameters<typeof claimNext>[0] {
  return {
    db,
    store,
    worker: 'test',
    batchKeys,
    cursor: new ClaimCursor(),
    load: new LoadDuty(),
    longVisit: new LongVisit(),
    pace: createPace(1),
    visitGate: (visit) => visit(),
    report: emptyReport(),
    stop: new AbortController().signal,
    cut: new AbortController().signal,
  };
}
