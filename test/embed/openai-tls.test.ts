import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const KEY = 'sk-very-secret';
const TEXT = 'a private text';

/** Embeds in a process of its own, since Node reads NODE_EXTRA_CA_CERTS only when it starts. */
const CHILD = `
import { createJiti } from 'jiti';
const { openModel } = await createJiti(process.cwd() + '/').import(process.cwd() + '/src/embed/open.ts');
const [baseUrl, apiKey, text] = process.argv.slice(1);
const model = await openModel('openai/test@2', { openai: { baseUrl, apiKey }, requestTimeoutMs: 20_000 });
const told = await model.embed([text], { purpose: 'document' }).then(
  ({ vectors }) => ({ vectors: vectors.length }),
  (error) => ({ failure: error.failure, message: error.message, notSent: error.details.notSent, all: error.stack + JSON.stringify(error) }),
);
console.log(JSON.stringify(told));
`;

let folder: string;
let server: Server;
let port: number;
let bodies: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'freshvec-tls-'));
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost'];
  const files = ['-keyout', path.join(folder, 'key.pem'), '-out', path.join(folder, 'cert.pem')];
  const kind = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  await promisify(execFile)('openssl', ['req', '-x509', ...kind, ...subject, ...files]);
  const [key, cert] = await Promise.all(['key.pem', 'cert.pem'].map((name) => readFile(path.join(folder, name))));
  const embedding = Buffer.from(Float32Array.of(1, 2).buffer).toString('base64');
  server = createServer({ key, cert }, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    bodies.push(`${JSON.stringify(request.headers)} ${body}`);
    response.writeHead(200, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ data: [{ index: 0, embedding }] }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});

afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await rm(folder, { recursive: true });
});

interface Told {
  vectors?: number;
  failure?: string;
  notSent?: boolean;
  message?: string;
  all?: string;
}

async function embedAt(host: string, trusted: boolean): Promise<Told> {
  bodies = [];
  const args = ['--input-type=module', '-e', CHILD, `https://${host}:${port}/v1`, KEY, TEXT];
  const env = { ...process.env, ...(trusted && { NODE_EXTRA_CA_CERTS: path.join(folder, 'cert.pem') }) };
  const child = spawn(process.execPath, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  for await (const chunk of child.stdout) out += chunk;
  return JSON.parse(out) as Told;
}

describe("the provider's certificate", () => {
  it('is fine when it is trusted and for this host', async () => {
    expect(await embedAt('localhost', true)).toEqual({ vectors: 1 });
    expect(bodies.join()).toContain(TEXT);
  });

  it.each([
    ['for another host', '127.0.0.1', true, /for another host \(ERR_TLS_CERT_ALTNAME_INVALID\)/],
    ['not trusted', 'localhost', false, /not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\)/],
  ])('is refused when it is %s: neither key nor text leaves', async (_, host, trusted, message) => {
    const told = await embedAt(host, trusted);
    expect(told).toMatchObject({ failure: 'unavailable', notSent: true, message: expect.stringMatching(message) });
    for (const secret of [KEY, TEXT, '127.0.0.1']) expect(told.all).not.toContain(secret);
    expect(bodies).toEqual([]);
  });
});
