import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Database } from '../../src/db/database.js';
import { readCache, writeCache } from '../../src/embed/cache.js';
import { openModel } from '../../src/embed/open.js';
import { type EmbeddingModel, EmbedError } from '../../src/embed/port.js';
import { acceptProbe, probeModel, probeState } from '../../src/embed/probe.js';
import { type Fixture, openFixture } from '../support/fixture.js';
import { withEscapedBytea } from './bytea-output.js';

const SPEC = 'openai/served@32';
const FINGERPRINT = `${SPEC}#0a1b2c3d`;

interface Served extends EmbeddingModel {
  /** Texts that were paid for, request by request. */
  readonly requests: (readonly string[])[];
}

interface Serving {
  /** Which weights answer: vectors of two are unrelated. */
  readonly weights?: number;
  /** Length of the noise, as a part of the vector's. */
  readonly noise?: number;
  readonly scale?: number;
  readonly maxInputs?: number;
  /** Holds every answer back until this is over. */
  readonly until?: Promise<unknown>;
  readonly fails?: EmbedError;
}

/** What a provider serves under one name: the weights may be others than yesterday, the fingerprint is the same. */
function served(serving: Serving = {}): Served {
  const { weights = 1, noise = 0, scale = 1, maxInputs = 2048, until, fails } = serving;
  const requests: (readonly string[])[] = [];
  return {
    spec: SPEC,
    fingerprint: FINGERPRINT,
    dimensions: 32,
    limits: { maxInputs, maxTokensPerInput: 8191, maxTokensPerRequest: 300_000 },
    requests,
    countTokens: (text) => text.length,
    close: async () => {},
    async embed(texts) {
      requests.push(texts);
      await until;
      if (fails) throw fails;
      const vectors = texts.map((text) => {
        const vector = wave(text.length * 31 + weights * 1009);
        const error = wave(requests.length * 7919 + text.length);
        return vector.map((x, i) => scale * (x + noise * (error[i] ?? 0)));
      });
      return { vectors, tokens: 1 };
    },
  };
}

/** A vector of length 1 that depends on the seed alone. */
function wave(seed: number): Float32Array {
  const raw = Float64Array.from({ length: 32 }, (_, i) => Math.sin(seed * 12.9898 + i * 78.233) * 43758.5453);
  const vector = raw.map((x) => x - Math.floor(x) - 0.5);
  const length = Math.hypot(...vector);
  return Float32Array.from(vector, (x) => x / length);
}

const changed = {
  failure: 'model_changed',
  message: expect.stringMatching(/openai\/served@32 is not the model any more/),
};

describe.each(['postgres', 'pglite'] as const)('the probe on %s', (engine) => {
  let fixture: Fixture;
  let db: Database;
  beforeAll(async () => {
    fixture = await openFixture(engine);
    db = fixture.db;
  });
  afterAll(() => fixture.close());
  beforeEach(() => db.exec('TRUNCATE freshvec.probe'));

  const record = async () =>
    (await db.query<Record<string, unknown>>('SELECT *, vectors::text AS shown FROM freshvec.probe'))[0];

  test('is a first one once, and then the same', async () => {
    expect(await probeState(db, FINGERPRINT)).toBe('unknown');
    const model = served();
    expect(await probeModel(db, model)).toBe('first');
    expect(await probeState(db, FINGERPRINT)).toBe('same');
    const first = await record();
    expect(await probeModel(db, served())).toBe('same');
    expect(await record()).toMatchObject({ shown: first?.shown, changed_at: null, reason: null });
    expect(model.requests).toHaveLength(1);
    expect(new Set(model.requests.flat()).size).toBe(3);
  });

  test('noise as a provider has it is no change', async () => {
    await probeModel(db, served({ noise: 0.01 }));
    for (const noise of [0, 0.01, 0.05]) expect(await probeModel(db, served({ noise }))).toBe('same');
  });

  test('other weights are a change: it says so, on record, and nobody pays to hear it again', async () => {
    await probeModel(db, served());
    const before = await record();
    const error = await probeModel(db, served({ weights: 2 })).then(String, (caught: unknown) => caught);
    expect(error).toBeInstanceOf(EmbedError);
    expect(error).toMatchObject(changed);
    expect(String(error)).toMatch(/similarity of -?0\.\d{4} .*freshvec probe accept openai\/served@32/s);
    expect(await probeState(db, FINGERPRINT)).toBe('changed');
    expect(await record()).toMatchObject({ shown: before?.shown, changed_at: expect.any(Date) });
    const other = served();
    await expect(probeModel(db, other)).rejects.toMatchObject({ message: (error as Error).message });
    expect(other.requests).toEqual([]);
  });

  test.each([
    ['three tenths of noise', { noise: 0.3 }],
    ['vectors that are no longer of length 1', { scale: 1.5 }],
  ])('%s is a change', async (_, serving) => {
    await probeModel(db, served());
    await expect(probeModel(db, served(serving))).rejects.toMatchObject(changed);
  });

  test('one text of three is enough', async () => {
    await probeModel(db, served());
    const model = served();
    const half: EmbeddingModel = {
      ...model,
      async embed(texts, options) {
        const answer = await model.embed(texts, options);
        const other = await served({ weights: 2 }).embed(texts, options);
        return { ...answer, vectors: answer.vectors.map((vector, i) => other.vectors[i === 1 ? 1 : -1] ?? vector) };
      },
    };
    await expect(probeModel(db, half)).rejects.toMatchObject(changed);
  });

  test('an accepted change is a first probe again, and the cache forgets what it had of the model', async () => {
    await probeModel(db, served());
    await probeModel(db, served({ weights: 2 })).catch(() => {});
    const hash = '00000000-0000-0000-0000-000000000001';
    await writeCache(db, FINGERPRINT, [{ hash, vector: wave(1) }]);
    await writeCache(db, 'openai/kept@32#0a1b2c3d', [{ hash, vector: wave(1) }]);
    expect(await acceptProbe(db, FINGERPRINT)).toBe(true);
    expect(await readCache(db, FINGERPRINT, [hash])).toEqual(new Map());
    expect((await readCache(db, 'openai/kept@32#0a1b2c3d', [hash])).size).toBe(1);
    expect(await probeState(db, FINGERPRINT)).toBe('unknown');
    expect(await probeModel(db, served({ weights: 2 }))).toBe('first');
    expect(await probeModel(db, served({ weights: 2 }))).toBe('same');
    await expect(probeModel(db, served())).rejects.toMatchObject(changed);
    expect(await acceptProbe(db, FINGERPRINT)).toBe(true);
    expect(await acceptProbe(db, FINGERPRINT)).toBe(false);
  });

  test.each(['rate_limited', 'unavailable', 'unauthorised'] as const)(
    '%s is thrown as it is and leaves no trace',
    async (failure) => {
      const fails = new EmbedError(failure, 'no', { retryAfterMs: 7000 });
      await expect(probeModel(db, served({ fails }))).rejects.toBe(fails);
      expect(await probeState(db, FINGERPRINT)).toBe('unknown');
      await probeModel(db, served());
      const before = await record();
      await expect(probeModel(db, served({ fails }))).rejects.toBe(fails);
      expect(await record()).toEqual(before);
    },
  );

  test('a recent comparison by anybody counts; an older one does not', async () => {
    await probeModel(db, served());
    const model = served();
    expect(await probeModel(db, model, { maxAgeMs: 60_000 })).toBe('same');
    expect(model.requests).toHaveLength(0);
    await db.exec(`UPDATE freshvec.probe SET checked_at = now() - interval '61 s'`);
    expect(await probeModel(db, model, { maxAgeMs: 60_000 })).toBe('same');
    expect(model.requests).toHaveLength(1);
    expect(await probeModel(db, model, { maxAgeMs: 60_000 })).toBe('same');
    expect(model.requests).toHaveLength(1);
  });

  test('asks for the texts that are on record, whatever this version would ask for', async () => {
    await probeModel(db, served());
    await db.query(`UPDATE freshvec.probe SET texts = ARRAY['another text'], vectors = vectors[1:1]`);
    const model = served({ weights: 2 });
    await expect(probeModel(db, model)).rejects.toMatchObject(changed);
    expect(model.requests).toEqual([['another text']]);
  });

  test('goes through the gate, in requests that the provider takes', async () => {
    const tokens: number[] = [];
    const model = served({ maxInputs: 2 });
    const { signal } = new AbortController();
    await probeModel(db, model, {
      signal,
      gate: {
        run(request, send) {
          expect(request).toMatchObject({ priority: 'interactive', signal });
          tokens.push(request.tokens);
          return send(() => {});
        },
      },
    });
    expect(model.requests.map((texts) => texts.length)).toEqual([2, 1]);
    expect(tokens).toEqual(model.requests.map((texts) => texts.join('').length));
  });

  test('the bundled model is not asked, the others are', async () => {
    const bundled = await openModel('static/mini@128', { requestTimeoutMs: 1000 });
    const fake = await openModel('fake/m@8', { requestTimeoutMs: 1000 });
    expect(await probeModel(db, bundled)).toBe('same');
    expect(await probeState(db, bundled.fingerprint)).toBe('unknown');
    expect(await probeModel(db, fake)).toBe('first');
    expect(await probeModel(db, fake)).toBe('same');
  });
});

describe('many workers at once', () => {
  let fixture: Fixture;
  let db: Database;
  beforeAll(async () => {
    fixture = await openFixture();
    db = fixture.db;
  });
  afterAll(() => fixture.close());
  beforeEach(() => db.exec('TRUNCATE freshvec.probe'));

  /** A model whose answer is held back until `held.open()`. */
  function held(serving: Serving): { model: Served; open: () => void } {
    let open = (): void => {};
    const until = new Promise<void>((resolve) => {
      open = resolve;
    });
    return { model: served({ ...serving, until }), open };
  }

  async function asked(model: Served): Promise<void> {
    await expect.poll(() => model.requests.length).toBeGreaterThan(0);
  }

  test('one of them is first, the others are the same', async () => {
    const { model, open } = held({});
    const probes = Array.from({ length: 6 }, () => probeModel(db, model));
    await expect.poll(() => model.requests.length).toBe(6);
    open();
    expect((await Promise.all(probes)).sort()).toEqual(['first', 'same', 'same', 'same', 'same', 'same']);
  });

  test('who comes second with another model learns that it has changed', async () => {
    const slow = held({ weights: 2 });
    const probe = probeModel(db, slow.model);
    await asked(slow.model);
    expect(await probeModel(db, served())).toBe('first');
    slow.open();
    await expect(probe).rejects.toMatchObject(changed);
    expect(await probeState(db, FINGERPRINT)).toBe('changed');
  });

  test('all that find the change at once say the same, and it is recorded once', async () => {
    await probeModel(db, served());
    const { model, open } = held({ weights: 2 });
    const probes = Array.from({ length: 4 }, () => probeModel(db, model).catch((error: Error) => error.message));
    await expect.poll(() => model.requests.length).toBe(4);
    open();
    expect(new Set(await Promise.all(probes)).size).toBe(1);
  });

  test('an answer that was compared with what has been accepted away meanwhile condemns nobody', async () => {
    await probeModel(db, served());
    const slow = held({ weights: 2 });
    const probe = probeModel(db, slow.model);
    await asked(slow.model);
    await acceptProbe(db, FINGERPRINT);
    expect(await probeModel(db, served({ weights: 2 }))).toBe('first');
    slow.open();
    expect(await probe).toBe('same');
    expect(slow.model.requests).toHaveLength(2);
    expect(await probeState(db, FINGERPRINT)).toBe('same');
  });

  test('a role whose bytea_output is another compares the same', async () => {
    await probeModel(db, served());
    await withEscapedBytea(fixture, async (other) => {
      expect(await probeModel(other, served())).toBe('same');
    });
  });
});
