/**
 * A stand-in for an embedding provider: OpenAI's POST …/embeddings on 127.0.0.1, with vectors that depend on the text
 * only, real sliding-window limits, latency, faults and a record of all that was asked. Needs nothing but Node.
 *
 * GET /stats answers with the counters (`?texts=1`: and how often each text was charged); POST /settings takes
 * StandinSettings as JSON, for a stand-in in a process of its own.
 */
import { setMaxListeners } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Ask, answerBody } from './answer.js';
import { deliver, send } from './deliver.js';
import { type Answer, errorAnswer, type Fault, FaultPlan, type FaultRule, refusal, retryHeaders } from './faults.js';
import { readAsk } from './request.js';
import { seededRandom } from './vectors.js';
import { SlidingWindow } from './window.js';

/** May be changed while it runs. */
export interface StandinSettings {
  readonly faults?: readonly FaultRule[];
  /** Ms from a request to its answer: mean, and how far to either side, evenly spread. */
  readonly latencyMs?: number;
  readonly jitterMs?: number;
  /** A request with a text that contains this is rejected as a whole; '' for none. */
  readonly poison?: string;
  /** Vectors come from this seed: another seed is another model behind the same name. */
  readonly modelSeed?: number;
}

export interface StandinOptions extends StandinSettings {
  /** Where the request asks for none; 64 unless given. */
  readonly dimensions?: number;
  /** Of faults and jitter. */
  readonly seed?: number;
  /** Without a limit where not given. */
  readonly requestsPerMinute?: number;
  readonly tokensPerMinute?: number;
  /** A shorter minute, for tests. */
  readonly windowMs?: number;
  /** UTF-8 bytes for each token; 4 unless given. */
  readonly bytesPerToken?: number;
  /** 2048 unless given. */
  readonly maxInputs?: number;
  /** 8191 unless given. */
  readonly maxTokensPerInput?: number;
  /** If given, every other key is answered with 401. */
  readonly apiKey?: string;
  readonly port?: number;
}

export interface StandinStats {
  /** All that came in. */
  readonly requests: number;
  /** Let in by the limits, and charged, whatever became of the answer. */
  readonly charged: { readonly requests: number; readonly texts: number; readonly tokens: number };
  /** Charged texts that had been charged before. */
  readonly chargedAgain: number;
  readonly answered: number;
  /** 429s of the limits, without those of faults. */
  readonly rateLimited: number;
  readonly rejected: number;
  readonly faults: Readonly<Record<string, number>>;
  /** The most that was charged within any one window. */
  readonly perMinute: { readonly maxRequests: number; readonly maxTokens: number };
  readonly inFlight: number;
  readonly maxInFlight: number;
}

export interface Standin {
  /** For OPENAI_BASE_URL. */
  readonly baseUrl: string;
  /** How often each text was charged. */
  readonly texts: ReadonlyMap<string, number>;
  /** Path with query, and headers, of the last request for vectors. */
  readonly last: { readonly url: string; readonly headers: IncomingMessage['headers'] } | undefined;
  set(settings: StandinSettings): void;
  stats(): StandinStats;
  close(): Promise<void>;
}

export async function startStandin(options: StandinOptions = {}): Promise<Standin> {
  const standin = new StandinServer(options);
  await standin.listen();
  return standin;
}

class StandinServer implements Standin {
  readonly texts = new Map<string, number>();
  last: Standin['last'];
  private readonly server = createServer((request, response) => void this.handle(request, response));
  private readonly closing = new AbortController();
  private readonly window: SlidingWindow;
  private readonly random: () => number;
  private settings: Required<StandinSettings>;
  private plan: FaultPlan;
  private readonly counters = { requests: 0, tokens: 0, charged: 0, answered: 0, rateLimited: 0, rejected: 0 };
  private readonly faults: Record<string, number> = {};
  private inFlight = 0;
  private maxInFlight = 0;

  constructor(private readonly options: StandinOptions) {
    setMaxListeners(0, this.closing.signal); // One for each request that sleeps.
    const { requestsPerMinute = Number.POSITIVE_INFINITY, tokensPerMinute = Number.POSITIVE_INFINITY } = options;
    this.window = new SlidingWindow(
      { requests: requestsPerMinute, tokens: tokensPerMinute },
      options.windowMs ?? 60_000,
    );
    this.random = seededRandom(options.seed ?? 0);
    const { faults = [], latencyMs = 0, jitterMs = 0, poison = '', modelSeed = 0 } = options;
    this.settings = { faults, latencyMs, jitterMs, poison, modelSeed };
    this.plan = new FaultPlan(faults, this.random);
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen(this.options.port ?? 0, '127.0.0.1', resolve);
    });
  }

  get baseUrl(): string {
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}/v1`;
  }

  set(settings: StandinSettings): void {
    this.settings = { ...this.settings, ...settings };
    if (settings.faults) this.plan = new FaultPlan(settings.faults, this.random);
  }

  stats(): StandinStats {
    const { requests, tokens, charged, answered, rateLimited, rejected } = this.counters;
    const texts = [...this.texts.values()].reduce((sum, times) => sum + times, 0);
    return {
      requests,
      charged: { requests: charged, texts, tokens },
      chargedAgain: texts - this.texts.size,
      answered,
      rateLimited,
      rejected,
      faults: { ...this.faults },
      perMinute: { maxRequests: this.window.peak.requests, maxTokens: this.window.peak.tokens },
      inFlight: this.inFlight,
      maxInFlight: this.maxInFlight,
    };
  }

  async close(): Promise<void> {
    this.closing.abort();
    this.server.closeAllConnections();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }

  private async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = await readBody(request);
      const path = (request.url ?? '').split('?')[0] ?? '';
      if (request.method === 'GET' && path === '/stats') {
        const texts = request.url?.includes('texts=1') ? { texts: Object.fromEntries(this.texts) } : {};
        send(response, json(200, { ...this.stats(), ...texts }));
      } else if (request.method === 'POST' && path === '/settings') {
        this.set(JSON.parse(body) as StandinSettings);
        send(response, json(200, {}));
      } else if (request.method === 'POST' && path.endsWith('/embeddings')) {
        this.last = { url: request.url ?? '', headers: request.headers };
        await this.embeddings(body, keyOf(request), response);
      } else {
        send(response, errorAnswer(404, { message: 'Unknown request URL', type: 'invalid_request_error' }));
      }
    } catch {
      response.destroy(); // The peer went away, or the stand-in closes.
    }
  }

  private async embeddings(body: string, key: string, response: ServerResponse): Promise<void> {
    this.counters.requests += 1;
    this.inFlight += 1;
    this.maxInFlight = Math.max(this.maxInFlight, this.inFlight);
    try {
      const fault = this.plan.next(body);
      if (fault) this.faults[fault.kind] = (this.faults[fault.kind] ?? 0) + 1;
      const answer = this.decide(body, key, fault);
      await this.pause();
      if (await deliver(answer, fault, response, this.closing.signal)) this.counters.answered += 1;
    } finally {
      this.inFlight -= 1;
    }
  }

  /** What is answered. Charges and counts at once, so that requests are judged in the order in which they came. */
  private decide(body: string, key: string, fault: Fault | undefined): Answer {
    const { apiKey, bytesPerToken = 4 } = this.options;
    const wrongKey = apiKey !== undefined && key !== apiKey;
    const refused = wrongKey ? refusal({ kind: 'unauthorised' }, key) : fault && refusal(fault, key);
    if (refused) return refused;
    const asked = readAsk(body, this.settings.poison, bytesPerToken, this.options);
    if ('status' in asked) {
      this.counters.rejected += 1;
      return asked;
    }
    const { ask, tokens } = asked;
    const waitMs = this.window.take({ requests: 1, tokens }, performance.now());
    if (waitMs !== undefined) {
      this.counters.rateLimited += 1;
      const error = { message: 'Rate limit reached.', type: 'tokens', code: 'rate_limit_exceeded' };
      return errorAnswer(429, error, { ...this.limitHeaders(), ...retryHeaders(waitMs) });
    }
    this.charge(ask, tokens);
    return {
      status: 200,
      headers: { 'content-type': 'application/json', ...this.limitHeaders() },
      body: answerBody(ask, tokens, this.settings.modelSeed, fault),
    };
  }

  private charge({ texts }: Ask, tokens: number): void {
    this.counters.charged += 1;
    this.counters.tokens += tokens;
    for (const text of texts) this.texts.set(text, (this.texts.get(text) ?? 0) + 1);
  }

  private async pause(): Promise<void> {
    const { latencyMs, jitterMs } = this.settings;
    const ms = jitterMs === 0 ? latencyMs : Math.max(0, latencyMs + (this.random() * 2 - 1) * jitterMs);
    if (ms > 0) await sleep(ms, undefined, { signal: this.closing.signal });
  }

  private limitHeaders(): Record<string, string> {
    const { remaining, resetMs } = this.window.state(performance.now());
    const headers: Record<string, string> = {};
    for (const what of ['requests', 'tokens'] as const) {
      const limit = this.window.limits[what];
      if (!Number.isFinite(limit)) continue;
      headers[`x-ratelimit-limit-${what}`] = String(limit);
      headers[`x-ratelimit-remaining-${what}`] = String(remaining[what]);
      headers[`x-ratelimit-reset-${what}`] = goDuration(remaining[what] === limit ? 0 : resetMs);
    }
    return headers;
  }
}

/** As OpenAI writes times: `6m0s`, `1.2s`, `120ms`. */
export function goDuration(ms: number): string {
  const whole = Math.ceil(ms);
  if (whole < 1000) return `${whole}ms`;
  const minutes = Math.floor(whole / 60_000);
  const seconds = (whole % 60_000) / 1000;
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`;
}

function keyOf({ headers }: IncomingMessage): string {
  const azure = headers['api-key'];
  return typeof azure === 'string' ? azure : (headers.authorization ?? '').replace(/^Bearer /, '');
}

function json(status: number, body: unknown): Answer {
  return { status, headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}
