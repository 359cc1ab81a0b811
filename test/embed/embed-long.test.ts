import { describe, expect, it } from 'vitest';
import type { LongTexts } from '../../src/catalog/long-texts.js';
import { withChecks } from '../../src/embed/check.js';
import { embedLong, type Piece } from '../../src/embed/embed-long.js';
import { longestFitting } from '../../src/embed/fit.js';
import { type EmbeddingModel, EmbedError, type TooLong } from '../../src/embed/port.js';

const LIMIT = 20;
const LONG = 'one two three. four five six. seven eight nine.';

/** A model whose tokens are characters, of which it takes LIMIT; its vector of a text is its first letter and length. */
function model(
  options: {
    knows?: number;
    fit?: boolean;
    says?: (tokens: number) => TooLong;
    fails?: (text: string) => EmbedError | undefined;
  } = {},
) {
  const { knows = LIMIT, fit = false, says = () => ({}), fails = () => undefined } = options;
  const sent: string[] = [];
  const inner: EmbeddingModel = {
    spec: 'test/long@2',
    fingerprint: 'test/long@2#0',
    dimensions: 2,
    limits: { maxInputs: 8, maxTokensPerInput: knows, maxTokensPerRequest: 1000 },
    countTokens: (text) => text.length,
    ...(fit && { fit: (text: string, most: number) => longestFitting(text, most, (part) => part.length) }),
    close: async () => {},
    async embed(texts) {
      sent.push(...texts);
      for (const text of texts) {
        const failure = fails(text);
        if (failure) throw failure;
        if (text.length > LIMIT && !text.startsWith('The quick')) {
          throw new EmbedError('input_rejected', 'HTTP 400', { status: 400, tooLong: says(text.length) });
        }
      }
      return { vectors: texts.map(vectorOf), tokens: texts.reduce((sum, text) => sum + text.length, 0) };
    },
  };
  return { model: withChecks(inner), sent };
}

const vectorOf = (text: string) => Float32Array.of(text.charCodeAt(0), text.length);
const run = async (
  given: EmbeddingModel,
  texts: readonly string[],
  longTexts: LongTexts,
  pieces?: ReturnType<typeof cache>,
) => (await embedLong(given, texts, { purpose: 'document', longTexts, pieces })).outcomes;

describe('with a tokeniser', () => {
  it('refuses without asking, and says the tokens', async () => {
    const { model: one, sent } = model({ fit: true });
    const [short, long, again] = await run(one, ['short', LONG, LONG], 'refuse');
    expect(short).toEqual({ vector: vectorOf('short') });
    expect(long).toEqual({ refused: { tokens: LONG.length, maxTokens: LIMIT } });
    expect(again).toEqual(long);
    expect(sent).toEqual(['short']);
  });

  it('truncates at the limit', async () => {
    const { model: one, sent } = model({ fit: true });
    const [long] = await run(one, [LONG], 'truncate');
    expect(sent).toEqual([LONG.slice(0, LIMIT)]);
    expect(long).toEqual({
      vector: vectorOf(LONG.slice(0, LIMIT)),
      long: { how: 'truncate', tokens: LONG.length, maxTokens: LIMIT, pieces: 1 },
    });
  });

  it('leaves the blanks at its beginning away', async () => {
    const { model: one, sent } = model({ fit: true });
    await run(one, [`${' '.repeat(50)}${LONG}`], 'truncate');
    expect(sent).toEqual([LONG.slice(0, LIMIT)]);
  });

  it('embeds pieces once, blank ones not at all, and writes their mean', async () => {
    const { model: one, sent } = model({ fit: true });
    const text = `one two three. \n${' '.repeat(60)}one two three. \n`;
    const [long] = await run(one, [text, 'one two three. \n'], 'chunk');
    expect(sent.every((piece) => piece.length <= LIMIT && /\S/.test(piece))).toBe(true);
    expect(new Set(sent).size).toBe(sent.length);
    expect(long).toMatchObject({ long: { how: 'chunk', tokens: text.length, maxTokens: LIMIT } });
  });

  it('weights pieces by their tokens', async () => {
    const { model: one, sent } = model({ fit: true });
    const [long] = await run(one, ['aaaa bbbb cccc dddd eeee'], 'chunk');
    expect(sent).toEqual(['aaaa bbbb cccc dddd ', 'eeee']);
    const x = (20 * 'a'.charCodeAt(0) + 4 * 'e'.charCodeAt(0)) / 24;
    const y = (20 * 20 + 4 * 4) / 24;
    expect(long).toEqual({
      vector: Float32Array.of(x, y),
      long: { how: 'chunk', tokens: 24, maxTokens: LIMIT, pieces: 2 },
    });
  });
});

describe('without one, by what the provider says', () => {
  const known = { knows: 8191 };
  it.each([
    ['its limit and the tokens', (tokens: number): TooLong => ({ maxTokens: LIMIT, tokens })],
    ['its limit', (): TooLong => ({ maxTokens: LIMIT })],
    ['nothing more', (): TooLong => ({})],
  ])('%s', async (what, says) => {
    const limit = what === 'nothing more' ? undefined : LIMIT;
    const refusing = model({ ...known, says });
    expect(await run(refusing.model, [LONG, 'short'], 'refuse')).toEqual([
      { refused: { tokens: LONG.length, maxTokens: limit } },
      { vector: vectorOf('short') },
    ]);
    const truncating = model({ ...known, says });
    const [cut] = await run(truncating.model, [LONG], 'truncate');
    const taken = truncating.sent.at(-1) ?? '';
    expect(taken.length).toBeLessThanOrEqual(LIMIT);
    expect(taken.length).toBeGreaterThan(LIMIT / 3);
    expect(cut).toMatchObject({ vector: vectorOf(taken), long: { how: 'truncate', tokens: LONG.length } });
    if (limit) expect(cut).toMatchObject({ long: { maxTokens: limit } });
    const chunking = model({ ...known, says });
    expect(await run(chunking.model, [LONG, 'short'], 'chunk')).toMatchObject([
      { long: { how: 'chunk', tokens: LONG.length } },
      { vector: vectorOf('short') },
    ]);
  });

  it('sends the first piece ahead while nobody knows how long pieces may be', async () => {
    const { model: one, sent } = model({ ...known });
    const [long] = await run(one, [LONG.repeat(20)], 'chunk');
    expect(long).toMatchObject({ long: { how: 'chunk' } });
    expect(sent.filter((text) => text.length > LIMIT && !text.startsWith('The quick')).length).toBeLessThan(13);
    const ours = sent.filter((text) => !text.startsWith('The quick'));
    expect(new Set(ours).size).toBe(ours.length); // Nothing is sent twice.
  });

  it('learns the limit that it named, so that the next text is not refused any more', async () => {
    const { model: one, sent } = model({ ...known, says: (tokens) => ({ maxTokens: LIMIT, tokens }) });
    await run(one, [LONG], 'truncate');
    const asked = sent.length;
    await run(one, [`another ${LONG}`], 'truncate');
    expect(one.limits.maxTokensPerInput).toBe(LIMIT);
    expect(sent.slice(asked).filter((text) => text.length > LIMIT)).toEqual([]);
  });

  it('is asked about what may yet fit, and not about what cannot', async () => {
    const { model: one, sent } = model({ knows: 14 });
    const doubtful = 'x'.repeat(20); // By the estimate over 14, and the model takes it.
    expect(await run(one, [doubtful], 'refuse')).toEqual([{ vector: vectorOf(doubtful) }]);
    expect(await run(one, ['y'.repeat(22)], 'refuse')).toEqual([{ refused: { tokens: 22, maxTokens: 14 } }]);
    expect(sent.filter((text) => text.startsWith('y'))).toEqual([]);
  });

  it('gives up on a model that takes nothing', async () => {
    const fails = (text: string) =>
      text.startsWith('The quick') ? undefined : new EmbedError('input_rejected', 'no', { tooLong: {} });
    const one = model({ ...known, fails: (text) => (text.startsWith('o') ? fails(text) : undefined) });
    const [outcome] = await run(one.model, ['o'.repeat(19)], 'truncate');
    expect(outcome).toEqual({ refused: { tokens: 19, maxTokens: undefined } });
    expect(one.sent.length).toBeLessThan(20);
  });
});

describe('a piece that fails', () => {
  it('fails its text, and no other', async () => {
    const { model: one } = model({
      fit: true,
      fails: (text) => (text.includes('five') ? new EmbedError('input_rejected', 'bad text') : undefined),
    });
    expect(await run(one, [LONG, 'short'], 'chunk')).toEqual([{ rejected: 'bad text' }, { vector: vectorOf('short') }]);
  });

  it('delays its text, and the pieces that were paid for are not paid for again', async () => {
    let down = true;
    const { model: one, sent } = model({
      fit: true,
      fails: (text) => (down && text.includes('seven') ? new EmbedError('unavailable', 'down') : undefined),
    });
    Object.assign(one.limits, { maxInputs: 1 });
    const kept = cache();
    expect(await run(one, [LONG], 'chunk', kept)).toEqual([{ delayed: 0, failure: 'unavailable' }]);
    const paid = sent.filter((text) => !text.includes('seven'));
    expect(paid.length).toBeGreaterThan(0);
    down = false;
    const before = sent.length;
    expect(await run(one, [LONG], 'chunk', kept)).toMatchObject([{ long: { how: 'chunk' } }]);
    expect(sent.slice(before).filter((text) => paid.includes(text))).toEqual([]);
  });

  it('is thrown where nothing was embedded, as it is for short texts', async () => {
    const { model: one } = model({ fit: true, fails: () => new EmbedError('unauthorised', 'no') });
    await expect(run(one, [LONG], 'truncate')).rejects.toMatchObject({ failure: 'unauthorised' });
  });
});

function cache() {
  const kept = new Map<string, Float32Array>();
  return {
    read: async (pieces: readonly Piece[]) =>
      new Map(
        pieces.flatMap(({ piece }) =>
          kept.has(piece) ? [[piece, kept.get(piece) ?? Float32Array.of()] as const] : [],
        ),
      ),
    write: async (pieces: readonly (Piece & { vector: Float32Array })[]) => {
      for (const { piece, vector } of pieces) kept.set(piece, vector);
    },
  };
}
