import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/config/package-root.js';
import { openModel } from '../../src/embed/open.js';
import { readStaticFiles } from '../../src/embed/providers/static-files.js';

const EXPECTED = '/work/shared/models/static-mini/expected.json';
const settings = { requestTimeoutMs: 1000 };
const purpose = 'document' as const;

describe('static/mini', () => {
  it.skipIf(!existsSync(EXPECTED))(`matches the reference vectors (skipped without ${EXPECTED})`, async () => {
    const cases: { text: string; dimensions: number; embedding: number[] }[] = JSON.parse(
      readFileSync(EXPECTED, 'utf8'),
    );
    for (const dimensions of [128, 256]) {
      const model = await openModel(`static/mini@${dimensions}`, settings);
      const ours = cases.filter((one) => one.dimensions === dimensions && one.embedding.some((x) => x !== 0));
      expect(ours.length).toBeGreaterThan(3);
      const { vectors } = await model.embed(
        ours.map((one) => one.text),
        { purpose },
      );
      ours.forEach((one, i) => {
        const worst = Math.max(...one.embedding.map((x, j) => Math.abs(x - (vectors[i]?.[j] ?? Number.NaN))));
        expect(worst, one.text).toBeLessThan(1e-4);
      });
    }
  });

  it('has a fingerprint that names its files', async () => {
    const model = await openModel('static/mini@256', settings);
    expect(model.fingerprint).toMatch(/^static\/mini@256#[0-9a-f]{8}$/);
    expect(model.fingerprint).toBe((await openModel('static/mini@256', settings)).fingerprint);
  });

  it.each(['', ' \n ', '🙂🙂', '[PAD] [MASK]'])('rejects %j, which has no token', async (text) => {
    const model = await openModel('static/mini@128', settings);
    const work = model.embed([text], { purpose });
    await expect(work).rejects.toMatchObject({ failure: 'input_rejected' });
  });

  it('gives a long text the vector of its words, wherever it is cut', async () => {
    const model = await openModel('static/mini@128', settings);
    const { vectors } = await model.embed(['cat dog', 'cat dog '.repeat(20_000)], { purpose });
    vectors[0]?.forEach((x, i) => {
      expect(vectors[1]?.[i]).toBeCloseTo(x, 5);
    });
  });

  it('gives a long text without spaces the vector of its characters', async () => {
    const model = await openModel('static/mini@128', settings);
    const { vectors } = await model.embed(['日本', '日本'.repeat(20_000)], { purpose });
    vectors[0]?.forEach((x, i) => {
      expect(vectors[1]?.[i]).toBeCloseTo(x, 5);
    });
  });

  it('leaves the event loop its turns, and stops when told to', async () => {
    const model = await openModel('static/mini@256', settings);
    const controller = new AbortController();
    const reason = new Error('stop');
    setImmediate(() => controller.abort(reason));
    const work = model.embed(['one two three four '.repeat(400_000)], { purpose, signal: controller.signal });
    await expect(work).rejects.toBe(reason);
  });
});

describe('its files', () => {
  it('are refused when damaged', async () => {
    const root = await mkdtemp(join(tmpdir(), 'freshvec-'));
    try {
      await cp(join(packageRoot(), 'models'), join(root, 'models'), { recursive: true });
      await writeFile(join(root, 'models/static-mini/scale.f32.bin'), Buffer.alloc(122_088));
      const damaged = { code: 'model_files_damaged', message: expect.stringContaining('scale.f32.bin') };
      await expect(readStaticFiles('mini', root)).rejects.toMatchObject(damaged);
      await rm(join(root, 'models/static-mini/config.json'));
      await expect(readStaticFiles('mini', root)).rejects.toMatchObject({ code: 'model_files_damaged' });
    } finally {
      await rm(root, { recursive: true });
    }
  });

  it('are found from the compiled code too', () => {
    expect(packageRoot(join(packageRoot(), 'dist/src/config/package-root.js'))).toBe(packageRoot());
    expect(() => packageRoot('/nowhere/at/all.js')).toThrow(/no package.json of freshvec/);
  });
});
