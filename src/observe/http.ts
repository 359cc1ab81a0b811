import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { ConfigError } from '../config/errors.js';
import { within } from './deadline.js';

/** 200 or 503, and the JSON that says why. */
export interface Verdict {
  readonly ok: boolean;
  readonly body: object;
}

export interface HttpOptions {
  readonly host: string;
  /** 0 takes any that is free. */
  readonly port: number;
  /** The bound of `/freshz` where the request names none. */
  readonly boundSeconds: number;
  readonly metrics: () => Promise<{ readonly contentType: string; readonly text: string }>;
  readonly ready: () => Promise<Verdict>;
  readonly fresh: (boundSeconds: number) => Promise<Verdict>;
  /** Told of what failed in answering; the answer itself says only that. */
  readonly onError: (error: unknown) => void;
}

export interface HttpEndpoints {
  readonly port: number;
  /** Closes at once, requests under way included. */
  stop(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

/** Less than the 10 s that Prometheus waits unless told. */
const ANSWER_MS = 8_000;
/** From a connection's first byte to the end of its request. */
const REQUEST_MS = 5_000;
/** A connection on which nothing moves. */
const IDLE_MS = 15_000;
const MAX_CONNECTIONS = 100;

/**
 * Answers `/metrics`, `/livez`, `/readyz` and `/freshz` to GET and HEAD, and everything else with 404.
 * Throws ConfigError where host and port cannot be had.
 */
export async function startHttp(options: HttpOptions): Promise<HttpEndpoints> {
  const { host, port, onError } = options;
  const server = createServer(
    {
      requestTimeout: REQUEST_MS,
      headersTimeout: REQUEST_MS,
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: 8_192,
    },
    (request, response) => {
      respond(options, request, response).catch(onError);
    },
  );
  server.timeout = IDLE_MS;
  server.maxConnections = MAX_CONNECTIONS;
  await listen(server, host, port);
  server.on('error', onError);
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, () => {
        server.removeListener('error', reject);
        resolve();
      });
    });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    throw new ConfigError(
      'config_invalid',
      `The metrics cannot be served on ${host}, port ${port}: ${REASONS[code] ?? code}. ` +
        'Choose another with FRESHVEC_HTTP_HOST and FRESHVEC_HTTP_PORT (http.host, http.port); port 0 serves none.',
      { cause: error },
    );
  }
}

const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the port is in use',
  EACCES: 'this user may not use that port',
  EADDRNOTAVAIL: 'this machine has no such address',
  ENOTFOUND: 'there is no such host',
};

async function respond(options: HttpOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { status, type, text } = await answer(options, request).catch((error: unknown) => {
    options.onError(error);
    return json(500, { status: 'error' }); // What failed may name hosts and statements: it is logged, not told.
  });
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
  });
  response.end(request.method === 'HEAD' ? undefined : text);
}

async function answer(options: HttpOptions, { method, url = '/' }: IncomingMessage): Promise<Answer> {
  if (method !== 'GET' && method !== 'HEAD') return NOT_FOUND;
  const [path, query] = url.split('?', 2);
  switch (path) {
    case '/metrics': {
      const { contentType, text } = await within(options.metrics(), ANSWER_MS, '/metrics');
      return { status: 200, type: contentType, text };
    }
    case '/livez':
      return json(200, { status: 'alive' });
    case '/readyz':
      return verdict(await within(options.ready(), ANSWER_MS, '/readyz'));
    case '/freshz': {
      const bound = new URLSearchParams(query).get('bound');
      const seconds = bound === null ? options.boundSeconds : Number(bound);
      if (bound?.trim() === '' || !Number.isFinite(seconds) || seconds <= 0) {
        return json(400, { status: 'error', message: 'bound is a number of seconds greater than 0.' });
      }
      return verdict(await within(options.fresh(seconds), ANSWER_MS, '/freshz'));
    }
    default:
      return NOT_FOUND;
  }
}

function verdict({ ok, body }: Verdict): Answer {
  return json(ok ? 200 : 503, body);
}

function json(status: number, body: object): Answer {
  return { status, type: 'application/json; charset=utf-8', text: `${JSON.stringify(body)}\n` };
}

const NOT_FOUND = json(404, { status: 'not_found' });
