import { createServer as createHttp, type RequestListener } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo } from 'node:net';

/** A server that nobody should ever ask: it counts who does. */
export interface Trap {
  readonly port: number;
  readonly requests: readonly string[];
  close(): Promise<void>;
}

/** Speaks HTTPS when it is given key and certificate (PEM). */
export async function startTrap(tls?: { readonly key: Buffer; readonly cert: Buffer }): Promise<Trap> {
  const requests: string[] = [];
  const note: RequestListener = (request, response) => {
    requests.push(`${request.method} ${request.url} ${JSON.stringify(request.headers)}`);
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
  };
  const server = tls ? createHttps(tls, note) : createHttp(note);
  // Every address, so that it would be found by any name of this machine.
  await new Promise<void>((resolve) => server.listen(0, resolve));
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    async close() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
