import pLimit from 'p-limit';
import type { EmbedResult } from './port.js';

/** Who goes first: a person's edit, then an import, then a first load. */
export const PRIORITIES = ['interactive', 'bulk', 'load'] as const;
export type Priority = (typeof PRIORITIES)[number];

export interface GateRequest {
  /** Estimate of what it will be charged for. */
  readonly tokens: number;
  readonly priority: Priority;
  readonly signal?: AbortSignal | undefined;
}

/** Thrown by `send` in place of its cause when nothing was sent, and so nothing charged. */
export class NotSent extends Error {
  constructor(override readonly cause: unknown) {
    super('the request was not sent', { cause });
  }
}

/** Lets requests through to a provider as its limits, the day's money and its health allow. */
export interface Gate {
  /**
   * Sends once that is allowed. Throws what `send` throws, the signal's reason, and EmbedError `unavailable` (with the
   * time to wait) while the provider rests, `spend_cap` when the day's money is spent.
   */
  run(request: GateRequest, send: () => Promise<EmbedResult>): Promise<EmbedResult>;
  /** A request with more tokens than this takes so much of a minute at once that the limit cannot be used up. */
  maxTokensPerRequest(): Promise<number>;
}

/** For models that run in this process: nothing is shared, nothing costs. One request at a time. */
export function openGate(): Gate {
  const one = pLimit(1);
  return { run: (_request, send) => one(send), maxTokensPerRequest: async () => Number.POSITIVE_INFINITY };
}
