import type { Gates } from '../budget/gates.js';
import type { Database } from '../db/database.js';
import type { EmbeddingModel } from '../embed/port.js';
import { probeModel } from '../embed/probe.js';
import type { Store } from '../store/port.js';

/** How old the last comparison of a model with itself may be, by whichever worker. */
const PROBE_MS = 3_600_000;
/** How often a worker looks whether another one found a model changed. */
const PROBE_LOOK_MS = 10_000;

/** Compares models with themselves, for all slots of a process together. */
export class Probes {
  /** By fingerprint, when it was compared with itself. */
  private readonly known = new Map<string, { readonly at: number; readonly done: Promise<void> }>();

  constructor(
    private readonly db: Database,
    private readonly gates: Gates,
  ) {}

  /** Throws when the provider's model is not the one that made the vectors: asked at the start, and every hour. */
  async check(model: EmbeddingModel, { source, space }: Store, signal: AbortSignal): Promise<void> {
    const known = this.known.get(model.fingerprint);
    if (known && performance.now() - known.at < PROBE_LOOK_MS) return known.done;
    const maxAgeMs = known ? PROBE_MS : 0;
    // Whoever comes first pays for all.
    const gate = this.gates.for(model, { source: source.name, spaceId: space.id, purpose: 'probe' });
    const done = probeModel(this.db, model, { gate, signal, maxAgeMs }).then(() => {});
    this.known.set(model.fingerprint, { at: performance.now(), done });
    done.catch(() => this.known.delete(model.fingerprint)); // The next drain asks again.
    return done;
  }
}
