import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { embedAll } from '../../src/embed/embed-all.js';
import type { Gate } from '../../src/embed/gate.js';
import { type EmbeddingModel, EmbedError, type EmbedFailure } from '../../src/embed/port.js';

const purpose = 'document' as const;

/** Three inputs a request; the vector of a text is its length; `answer` may throw. */
function modelThat(answer: (texts: readonly string[], call: number) => void): EmbeddingModel & { calls: string[][] } {
  const calls: string[][] = [];
  return {
    calls,
    spec: 'test/test@1',
    fingerprint: 'test/test@1#0',
    dimensions: 1,
    limits: { maxInputs: 3, maxTokensPerInput: 10, maxTokensPerRequest: 30 },
    countTokens: () => 1,
    close: async () => {},
    async embed(texts) {
      calls.push([...texts]);
      answer(texts, calls.length);
      return { vectors: texts.map((text) => Float32Array.of(text.length)), tokens: texts.length };
    },
  };
}

const fails = (failure: EmbedFailure, details = {}) => new EmbedError(failure, failure, details);
const vector = (x: number) => ({ vector: Float32Array.of(x) });

describe('embedAll', () => {
  it('sends equal texts once, in order, within the limits', async () => {
    const model = modelThat(() => {});
    const { outcomes, tokens } = await embedAll(model, ['a', 'bb', 'a', 'ccc', 'dddd'], { purpose });
    expect(outcomes).toEqual([vector(1), vector(2), vector(1), vector(3), vector(4)]);
    expect(model.calls).toEqual([['a', 'bb', 'ccc'], ['dddd']]);
    expect(tokens).toBe(4);
  });

  it('asks nothing for no texts', async () => {
    const model = modelThat(() => {});
    expect(await embedAll(model, [], { purpose })).toEqual({ outcomes: [], tokens: 0 });
    expect(model.calls).toEqual([]);
  });

  it('keeps what was paid for when the way to the provider breaks, and sends nothing more', async () => {
    const model = modelThat(() => {});
    let passed = 0;
    const gate: Gate = {
      async run(_request, send) {
        passed += 1;
        if (passed === 2) throw new Error('the database is away');
        return send(() => {});
      },
      maxTokensPerRequest: async () => Number.POSITIVE_INFINITY,
    };
    const texts = ['a', 'bb', 'ccc', 'dddd', 'eeeee'];
    const { outcomes, tokens } = await embedAll(model, texts, { purpose, gate });
    expect(outcomes.slice(0, 3)).toEqual([vector(1), vector(2), vector(3)]);
    expect(outcomes.slice(3)).toEqual([1, 2].map(() => ({ delayed: 0, failure: 'unavailable' })));
    expect(tokens).toBe(3);
    passed = 1;
    await expect(embedAll(model, ['a'], { purpose, gate })).rejects.toThrow('the database is away');
  });

  it('takes what still queues out of the line when the provider fails', async () => {
    const model = modelThat(() => {
      throw fails('unavailable', { retryAfterMs: 7 });
    });
    let [passed, left] = [0, 0];
    const gate: Gate = {
      async run({ signal }, send) {
        passed += 1;
        if (passed === 1) return send(() => {});
        if (!signal?.aborted) await once(signal ?? new EventTarget(), 'abort');
        left += 1;
        throw signal?.reason;
      },
      maxTokensPerRequest: async () => Number.POSITIVE_INFINITY,
    };
    const { outcomes } = await embedAll(model, ['a', 'bb', 'ccc', 'dddd', 'eeeee', 'ffffff', 'g7'], { purpose, gate });
    expect(outcomes).toEqual(outcomes.map(() => ({ delayed: 7, failure: 'unavailable' })));
    expect([model.calls.length, left]).toEqual([1, 2]);
  });

  it('blames only the text that is bad', async () => {
    const model = modelThat((texts) => {
      if (texts.includes('bad')) throw fails('input_rejected');
    });
    const { outcomes } = await embedAll(model, ['a', 'bad', 'ccc', 'dddd'], { purpose });
    expect(outcomes).toEqual([vector(1), { rejected: 'input_rejected' }, vector(3), vector(4)]);
  });

  it('blames nobody when even a harmless text is rejected', async () => {
    const model = modelThat(() => {
      throw fails('input_rejected', { status: 422 });
    });
    const work = embedAll(model, ['a', 'bb', 'ccc', 'dddd'], { purpose });
    await expect(work).rejects.toMatchObject({ failure: 'configuration', details: { status: 422 } });
    expect(model.calls).toHaveLength(2);
  });

  it.each(['rate_limited', 'unavailable'] as const)('delays everything after %s', async (failure) => {
    const model = modelThat((_texts, call) => {
      if (call === 2) throw fails(failure, { retryAfterMs: 1500 });
    });
    const { outcomes } = await embedAll(model, ['a', 'b', 'c', 'd', 'e', 'f', 'g'], { purpose });
    const delayed = { delayed: 1500, failure };
    expect(outcomes).toEqual([vector(1), vector(1), vector(1), delayed, delayed, delayed, delayed]);
    expect(model.calls).toHaveLength(2);
  });

  it('delays what is left of a bisected request', async () => {
    const model = modelThat((texts, call) => {
      if (call > 2) throw fails('unavailable');
      if (texts.length > 1) throw fails('input_rejected');
    });
    const { outcomes } = await embedAll(model, ['a', 'b', 'c'], { purpose });
    expect(outcomes).toEqual(Array(3).fill({ delayed: 0, failure: 'unavailable' }));
  });

  /** What a provider may fail with at one text and take all others. */
  const FAILS_AT_TEXT = [
    ['bad_response', {}],
    ['unavailable', { status: 500 }],
    ['unavailable', { status: 502 }],
  ] as const;

  it.each(FAILS_AT_TEXT)('finds the text that the provider fails at: %s %j', async (failure, details) => {
    const model = modelThat((texts) => {
      if (texts.includes('bad')) throw fails(failure, details);
    });
    const { outcomes } = await embedAll(model, ['a', 'bad', 'ccc', 'dddd'], { purpose });
    expect(outcomes).toEqual([vector(1), { rejected: failure, unsure: true }, vector(3), vector(4)]);
    // Once more alone: it may have been chance.
    expect(model.calls.filter((texts) => texts.join() === 'bad')).toHaveLength(2);
  });

  it.each(FAILS_AT_TEXT)('blames nobody where it fails at every text: %s %j', async (failure, details) => {
    const model = modelThat(() => {
      throw fails(failure, details);
    });
    const { outcomes } = await embedAll(model, ['a', 'b', 'c', 'd'], { purpose });
    expect(outcomes).toEqual(Array(4).fill({ delayed: 0, failure }));
    expect(model.calls).toHaveLength(2);
  });

  it.each(FAILS_AT_TEXT)(
    'blames nobody where an outage begins while it looks for the text: %s %j',
    async (...fault) => {
      for (let beginsAt = 2; beginsAt < 8; beginsAt++) {
        const model = modelThat((texts, call) => {
          if (call >= beginsAt || texts.includes('bad')) throw fails(...fault);
        });
        const { outcomes } = await embedAll(model, ['a', 'bad', 'ccc'], { purpose });
        expect(outcomes[1]).toEqual({ delayed: 0, failure: fault[0] });
      }
    },
  );

  it('forgives what a text fails with once', async () => {
    const model = modelThat((_texts, call) => {
      if (call === 1) throw fails('bad_response');
    });
    expect((await embedAll(model, ['a'], { purpose })).outcomes).toEqual([vector(1)]);
  });

  it.each([
    ['unavailable', { status: 503 }],
    ['unavailable', { status: 504 }],
    ['unavailable', { status: 500, retryAfterMs: 700 }],
    ['unavailable', {}],
  ] as const)('takes %s %j for an outage, whatever a harmless text would say', async (failure, details) => {
    const model = modelThat((texts) => {
      if (texts.includes('bad')) throw fails(failure, details);
    });
    const { outcomes } = await embedAll(model, ['bad'], { purpose });
    expect(outcomes).toMatchObject([{ failure }]);
    expect(model.calls).toEqual([['bad']]);
  });

  it('tells the gate of an answer that is no good, and paid for, and not of an outage', async () => {
    const model = modelThat((texts) => {
      if (texts.includes('bad')) throw fails('bad_response');
    });
    const told: unknown[] = [];
    const gate: Gate = {
      async run(request, send) {
        return send((tokens) => told.push(tokens)).catch((error) => {
          told.push(`${error.failure} of ${request.texts}`);
          throw error;
        });
      },
      maxTokensPerRequest: async () => Number.POSITIVE_INFINITY,
    };
    await embedAll(model, ['a', 'bad'], { purpose, gate });
    // The harmless text's token first, then those of the request.
    const once = [1, 1, 'input_rejected of 1'];
    expect(told).toEqual([1, 2, 'input_rejected of 2', ...once, ...once]);
  });

  it('puts texts that failed before into requests of their own', async () => {
    const model = modelThat(() => {});
    const apart = new Set(['bb', 'ccc']);
    const { outcomes } = await embedAll(model, ['a', 'bb', 'ccc', 'dddd'], { purpose, apart });
    expect(outcomes).toEqual([1, 2, 3, 4].map(vector));
    expect(model.calls).toEqual([
      ['a', 'dddd'],
      ['bb', 'ccc'],
    ]);
  });

  it.each(['unauthorised', 'configuration'] as const)('throws %s', async (failure) => {
    const model = modelThat(() => {
      throw fails(failure);
    });
    await expect(embedAll(model, ['a'], { purpose })).rejects.toMatchObject({ failure });
  });

  it('keeps what was paid for when the key stops working half-way', async () => {
    const model = modelThat((_texts, call) => {
      if (call === 2) throw fails('unauthorised');
    });
    const { outcomes } = await embedAll(model, ['a', 'b', 'c', 'd'], { purpose });
    expect(outcomes[0]).toEqual(vector(1));
    expect(outcomes[3]).toEqual({ delayed: 0, failure: 'unauthorised' });
  });

  it('blames no text where the provider begins to refuse all of them half-way', async () => {
    const texts = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
    const model = modelThat((_texts, call) => {
      if (call > 1) throw fails('input_rejected');
    });
    const { outcomes } = await embedAll(model, texts, { purpose });
    expect(outcomes.slice(0, 3)).toEqual([vector(1), vector(1), vector(1)]);
    for (const outcome of outcomes.slice(3)) expect(outcome).toEqual({ delayed: 0, failure: 'configuration' });
  });

  it('rejects with the reason of the signal, between requests too', async () => {
    const controller = new AbortController();
    const reason = new Error('stop');
    const model = modelThat((_texts, call) => {
      if (call === 1) controller.abort(reason);
    });
    const work = embedAll(model, ['a', 'b', 'c', 'd'], { purpose, signal: controller.signal });
    await expect(work).rejects.toBe(reason);
    expect(model.calls).toHaveLength(1);
  });

  it('passes on what is no EmbedError', async () => {
    const bug = new TypeError('a bug');
    const model = modelThat(() => {
      throw bug;
    });
    await expect(embedAll(model, ['a'], { purpose })).rejects.toBe(bug);
  });
});
