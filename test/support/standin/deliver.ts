import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Answer, Fault } from './faults.js';

export function send(response: ServerResponse, { status, headers, body }: Answer): void {
  response.writeHead(status, headers).end(body);
}

/** Sends an answer as the fault has it. Resolves to whether vectors left in full. */
export async function deliver(
  answer: Answer,
  fault: Fault | undefined,
  response: ServerResponse,
  closing: AbortSignal,
): Promise<boolean> {
  // A refusal has its own form; what is wrong with the connection befalls vectors only.
  if (answer.status === 200) {
    switch (fault?.kind) {
      case 'hang':
        await once(response, 'close');
        return false;
      case 'reset':
        response.socket?.resetAndDestroy();
        return false;
      case 'cut_off':
        response.writeHead(200, { ...answer.headers, 'content-length': Buffer.byteLength(answer.body) });
        await new Promise((resolve) => response.write(answer.body.slice(0, answer.body.length >> 1), resolve));
        response.destroy();
        return false;
      case 'drip':
        return drip(answer, fault, response, closing);
    }
  }
  send(response, answer);
  return answer.status === 200;
}

async function drip(
  answer: Answer,
  { chunks, everyMs }: { readonly chunks: number; readonly everyMs: number },
  response: ServerResponse,
  closing: AbortSignal,
): Promise<boolean> {
  response.writeHead(200, answer.headers);
  response.flushHeaders();
  const size = Math.ceil(answer.body.length / chunks);
  for (let at = 0; at < answer.body.length; at += size) {
    await sleep(everyMs, undefined, { signal: closing });
    if (response.destroyed) return false;
    response.write(answer.body.slice(at, at + size));
  }
  response.end();
  return true;
}
