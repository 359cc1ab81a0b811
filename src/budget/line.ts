import { type GateRequest, PRIORITIES, type Priority } from '../embed/gate.js';

/** Somebody who waits, with what he is given when his turn has come. */
export interface Waiting<Asked, Grant> {
  readonly asked: Asked;
  go(grant: Grant): void;
  fail(error: unknown): void;
  /** When money that others have reserved was first in the way. */
  heldSince: number | undefined;
}

/** Requests that wait for their turn, the most urgent first, and of these the first that came. */
export class Line<Asked extends GateRequest, Grant> {
  private readonly waiting = new Map<Priority, Waiting<Asked, Grant>[]>(PRIORITIES.map((priority) => [priority, []]));

  /** @param onChange told when somebody came, or left before his turn */
  constructor(private readonly onChange: () => void) {}

  /** Resolves to what `go` is given; rejects with the signal's reason, or what `fail` is given. */
  join(asked: Asked): Promise<Grant> {
    return new Promise((resolve, reject) => {
      const { signal } = asked;
      const leave = () => {
        this.leave(entry);
        this.onChange();
        reject(signal?.reason);
      };
      const entry: Waiting<Asked, Grant> = {
        asked,
        heldSince: undefined,
        go: (grant) => {
          signal?.removeEventListener('abort', leave);
          resolve(grant);
        },
        fail: (error) => {
          signal?.removeEventListener('abort', leave);
          reject(error);
        },
      };
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener('abort', leave, { once: true });
      this.waiting.get(asked.priority)?.push(entry);
      this.onChange();
    });
  }

  /** Of those that `may` go, if any may. */
  head(may: (asked: Asked) => boolean = () => true): Waiting<Asked, Grant> | undefined {
    for (const priority of PRIORITIES) {
      const first = this.waiting.get(priority)?.find(({ asked }) => may(asked));
      if (first) return first;
    }
    return undefined;
  }

  /** True when it was still there. */
  leave(entry: Waiting<Asked, Grant>): boolean {
    const queue = this.waiting.get(entry.asked.priority) ?? [];
    const at = queue.indexOf(entry);
    if (at >= 0) queue.splice(at, 1);
    return at >= 0;
  }
}
