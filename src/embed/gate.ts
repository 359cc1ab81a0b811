import pLimit from 'p-limit';
import type { EmbedResult } from './port.js';

/** Who goes first: a person's query, a person's edit, then an import, then a first load. A query never queues. */
export const PRIORITIES = ['query', 'interactive', 'bulk', 'load'] as const;
export type Priority = (typeof PRIORITIES)[number];

export interface GateRequest {
  /** Estimate of what it will be charged for. */
  readonly tokens: number;
  /** What it is charged for at most: so much money is reserved for it. */
  readonly mostTokens: number;
  readonly texts: number;
  readonly priority: Priority;
  readonly signal?: AbortSignal | undefined;
}

/** Thrown by `send` in place of its cause when nothing was sent, and so nothing charged. */
export class NotSent extends Error {
  constructor(override readonly cause: unknown) {
    super('the request was not sent', { cause });
  }
}

/** Tells of tokens that the provider charged for beside the answer, in the same turn. */
export type AlsoCharged = (tokens: number) => void;

/** Lets requests through to a provider as its limits, the day's money and its health allow. */
export interface Gate {
  /**
   * Sends once that is allowed. Throws what `send` throws, the signal's reason, and EmbedError `unavailable` (with the
   * time to wait) while the provider rests, `spend_cap` when the money of the day or of the space is spent; of a query,
   * which goes ahead of all that, only `unavailable` in an outage.
   */
  run(request: GateRequest, send: (also: AlsoCharged) => Promise<EmbedResult>): Promise<EmbedResult>;
  /** A request with more tokens than this takes so much of a minute at once that the limit cannot be used up. */
  maxTokensPerRequest(): Promise<number>;
}

/**
 * For models that run in this process: nothing is shared, nothing costs. One request at a time, and queries at once; an edit
 * waits behind no more than one request that is none.
 */
export function openGate(): Gate {
  const [one, others] = [pLimit(1), pLimit(1)];
  const toNobody = () => {};
  return {
    run: ({ priority }, send) => {
      const go = () => send(toNobody);
      if (priority === 'query') return go();
      return priority === 'interactive' ? one(go) : others(() => one(go));
    },
    maxTokensPerRequest: async () => Number.POSITIVE_INFINITY,
  };
}
