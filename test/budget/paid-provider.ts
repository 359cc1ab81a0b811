import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { estimateTokens } from '../../src/embed/tokens.js';

/** An embeddings server that charges what we estimate, so that the cap is kept to the last token. */
export interface PaidProvider {
  /** For OPENAI_BASE_URL. */
  readonly baseUrl: string;
  /** Notes that were paid for, each as often as it was; what does not begin with `note` is not ours. */
  readonly paid: string[];
  /** Charges other texts by this part of our estimate; 1 unless told. */
  chargeOthers: number;
  close(): Promise<void>;
}

/** Tokens of one note: with the price below it costs a dollar. */
export const NOTE_TOKENS = 100;
export const PRICES = { 'openai/paid': 10_000 };
/** SQL: note number `i`. */
export const NOTE = `rpad('note ' || i, ${NOTE_TOKENS * 4}, ' and more of it')`;

export async function startPaidProvider(): Promise<PaidProvider> {
  const paid: string[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { input } = JSON.parse(Buffer.concat(chunks).toString()) as { input: string[] };
    paid.push(...input.filter((text) => text.startsWith('note')));
    const data = input.map((text, index) => ({
      index,
      embedding: Buffer.from(Float32Array.of(text.length, text.charCodeAt(5), 1, 2).buffer).toString('base64'),
    }));
    const charge = (text: string) => estimateTokens(text) * (text.startsWith('note') ? 1 : provider.chargeOthers);
    const usage = { total_tokens: Math.ceil(input.reduce((sum, text) => sum + charge(text), 0)) };
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ data, model: 'paid', usage }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const provider: PaidProvider = {
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`,
    paid,
    chargeOthers: 1,
    close() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
  return provider;
}
