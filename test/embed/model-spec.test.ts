import { describe, expect, it } from 'vitest';
import { fingerprint, parseModelSpec } from '../../src/catalog/model.js';
import { FreshvecError } from '../../src/db/errors.js';

describe('parseModelSpec', () => {
  it.each([
    ['static/mini@256', 'static', 'mini', 256],
    ['static/mini@128', 'static', 'mini', 128],
    ['openai/text-embedding-3-small@1536', 'openai', 'text-embedding-3-small', 1536],
    ['openai/BAAI/bge-m3@1024', 'openai', 'BAAI/bge-m3', 1024],
    ['openai/nomic-embed-text:v1.5@768', 'openai', 'nomic-embed-text:v1.5', 768],
    ['openai/name@with-at@16000', 'openai', 'name@with-at', 16_000],
    ['fake/x@1', 'fake', 'x', 1],
  ])('reads %s', (spec, provider, name, dimensions) => {
    expect(parseModelSpec(spec)).toEqual({ provider, name, dimensions, spec });
  });

  it.each([
    '',
    'mini',
    'static/mini',
    'static/mini@512',
    'static/maxi@256',
    'static/constructor@256',
    'openai/@12',
    'openai/x@0',
    'openai/x@-3',
    'openai/x@16001',
    'openai/x@1e3',
    'openai/x y@3',
    'openai/x#1@3',
    'cohere/embed@1024',
    'OpenAI/x@3',
  ])('answers %j with what exists', (spec) => {
    const error = thrownBy(() => parseModelSpec(spec));
    expect(error).toBeInstanceOf(FreshvecError);
    expect(error).toMatchObject({ code: 'model_unknown' });
    expect(String(error)).toMatch(/static\/mini@256, static\/mini@128[\s\S]*openai\/NAME@DIMENSIONS[\s\S]*fake\/NAME/);
  });
});

describe('fingerprint', () => {
  const model = parseModelSpec('openai/BAAI/bge-m3@1024');

  it('is the spec and eight hex digits, stable over releases', () => {
    expect(fingerprint(model, { revision: '', normalised: false })).toBe('openai/BAAI/bge-m3@1024#50bf1a47');
  });

  it('changes with whatever changes the meaning', () => {
    const all = [
      fingerprint(model, { revision: '', normalised: false }),
      fingerprint(model, { revision: '2', normalised: false }),
      fingerprint(model, { revision: '', prefix: 'passage: ', normalised: false }),
      fingerprint(model, { revision: '', normalised: true }),
    ];
    expect(new Set(all).size).toBe(all.length);
    expect(fingerprint(model, { revision: '', prefix: '', normalised: false })).toBe(all[0]);
  });
});

function thrownBy(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}
