import { createHash } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROBE_TEXTS } from '../../../src/embed/probe.js';

/** What a request gets in place of vectors; `undefined` from the hook means: answer as usual. */
export interface OtherAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** What the harness wants of a provider. */
export interface Provider {
  /** For OPENAI_BASE_URL. */
  readonly baseUrl: string;
  readonly dimensions: number;
  /** The vector that it makes of a text: Float32Array of length `dimensions`. */
  vectorOf(text: string): Float32Array;
  /** Lets go of what it keeps back. */
  release?(): void;
  /** Forgets what was paid so far. */
  forget?(): void;
  close(): Promise<void>;
}

/** A server that speaks OpenAI's POST /v1/embeddings: vectors that depend on the text only, and a record of what was paid. */
export interface StandIn extends Provider {
  /** How often each text was paid for: a request that is taken in is charged, whatever becomes of its answer. */
  readonly paid: ReadonlyMap<string, number>;
  /** Payments for texts that had been paid for before. */
  paidAgain(): number;
  /** Requests taken in and not answered. */
  readonly waiting: number;
  /** Requests answered with vectors. */
  readonly answered: number;
  /** Ms from the request to its answer. */
  latencyMs: number;
  /** Looks at each request first; not charged when it gives an answer. */
  intercept: ((texts: readonly string[], response: ServerResponse) => OtherAnswer | undefined) | undefined;
  /** Called when an answer with vectors has left. */
  onAnswered: ((texts: readonly string[]) => void) | undefined;
  /** Keeps every answer back, from now until `release`. */
  hold(): void;
  release(): void;
  forget(): void;
}

/** A worker compares the model with itself when it starts, beside its work: no part of what a test counts or holds. */
export function isProbe(texts: readonly string[]): boolean {
  return texts.length > 0 && texts.every((text) => PROBE_TEXTS.includes(text));
}

/** The vector of a text, by SHA-256 in counter mode: Float32Array of length `dimensions`, components in [-1, 1). */
export function standInVector(text: string, dimensions: number): Float32Array {
  const vector = new Float32Array(dimensions);
  for (let at = 0; at < dimensions; at += 8) {
    const digest = createHash('sha256').update(`${at}:${text}`).digest();
    for (let i = 0; i < 8 && at + i < dimensions; i++) vector[at + i] = digest.readInt32LE(i * 4) / 2 ** 31;
  }
  return vector;
}

export async function startStandIn(dimensions = 64): Promise<StandIn> {
  const paid = new Map<string, number>();
  const held: (() => void)[] = [];
  let holding = false;
  let waiting = 0;
  let answered = 0;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => void answer(Buffer.concat(chunks), response));
  });

  async function answer(body: Buffer, response: ServerResponse): Promise<void> {
    const { input } = JSON.parse(body.toString()) as { input: string | string[] };
    const texts = typeof input === 'string' ? [input] : input;
    if (isProbe(texts)) return send(texts, response);
    const other = standIn.intercept?.(texts, response);
    if (other) {
      response
        .writeHead(other.status, { 'content-type': 'application/json', ...other.headers })
        .end(other.body ?? '{}');
      return;
    }
    for (const text of texts) paid.set(text, (paid.get(text) ?? 0) + 1);
    waiting += 1;
    if (standIn.latencyMs > 0) await sleep(standIn.latencyMs);
    if (holding) await new Promise<void>((resolve) => held.push(resolve));
    waiting -= 1;
    send(texts, response, () => {
      answered += 1;
      standIn.onAnswered?.(texts);
    });
  }

  function send(texts: readonly string[], response: ServerResponse, sent?: () => void): void {
    const data = texts.map((text, index) => ({ object: 'embedding', index, embedding: base64(text, dimensions) }));
    const usage = { prompt_tokens: texts.length, total_tokens: texts.length };
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ object: 'list', data, model: 'standin', usage }), sent);
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const standIn: StandIn = {
    baseUrl: `http://127.0.0.1:${port}/v1`,
    dimensions,
    vectorOf: (text) => standInVector(text, dimensions),
    paid,
    paidAgain: () => [...paid.values()].reduce((sum, times) => sum + times - 1, 0),
    get waiting() {
      return waiting;
    },
    get answered() {
      return answered;
    },
    latencyMs: 0,
    intercept: undefined,
    onAnswered: undefined,
    hold() {
      holding = true;
    },
    release() {
      holding = false;
      for (const go of held.splice(0)) go();
    },
    forget: () => paid.clear(),
    async close() {
      standIn.release();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return standIn;
}

function base64(text: string, dimensions: number): string {
  return Buffer.from(standInVector(text, dimensions).buffer).toString('base64');
}
