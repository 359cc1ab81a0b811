import { describe, expect, it } from 'vitest';
import { openModel } from '../../src/embed/open.js';

const purpose = 'document' as const;

describe('fake', () => {
  it('gives equal texts equal unit vectors, and unrelated ones otherwise', async () => {
    const model = await openModel('fake/a@384', { requestTimeoutMs: 1000 });
    const { vectors, tokens } = await model.embed(['one', 'two', 'one'], { purpose });
    const [one, two, again] = vectors as [Float32Array, Float32Array, Float32Array];
    expect(again).toEqual(one);
    expect(dot(one, one)).toBeCloseTo(1, 5);
    expect(Math.abs(dot(one, two))).toBeLessThan(0.25);
    expect(tokens).toBe(3);
  });

  it('depends on the name', async () => {
    const [a, b] = await Promise.all(
      ['fake/a@64', 'fake/b@64'].map(async (spec) => {
        const model = await openModel(spec, { requestTimeoutMs: 1000 });
        return (await model.embed(['one'], { purpose })).vectors[0];
      }),
    );
    expect(a).not.toEqual(b);
  });

  it('rejects a request with poison in it', async () => {
    const model = await openModel('fake/a@8', { requestTimeoutMs: 1000 });
    const work = model.embed(['fine', 'a [[poison]] b'], { purpose });
    await expect(work).rejects.toMatchObject({ failure: 'input_rejected' });
  });

  it('waits as long as it is told, or until aborted', async () => {
    const model = await openModel('fake/a@8', { requestTimeoutMs: 1000, fake: { latencyMs: 60_000 } });
    const controller = new AbortController();
    const reason = new Error('stop');
    const work = model.embed(['fine'], { purpose, signal: controller.signal });
    controller.abort(reason);
    await expect(work).rejects.toBe(reason);
  });

  it('has no zero vector even in one dimension', async () => {
    const model = await openModel('fake/a@1', { requestTimeoutMs: 1000 });
    const { vectors } = await model.embed(
      Array.from({ length: 1000 }, (_, i) => `text ${i}`),
      { purpose },
    );
    for (const [x] of vectors) expect(Math.abs(x ?? 0)).toBeCloseTo(1, 6);
  });
});

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * (b[i] ?? 0), 0);
}
