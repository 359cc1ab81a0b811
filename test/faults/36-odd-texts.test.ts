import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { createClient } from '../../src/index.js';
import { eventually } from '../support/eventually.js';
import type { FaultyProvider } from './support/faulty.js';
import { type System, TIMEOUT_MS, withFaultyProvider } from './support/system.js';

const CONTROLS = Array.from({ length: 31 }, (_, i) => String.fromCharCode(i + 1)).join('');

/** Texts that are embedded as they are. */
const TAKEN: Readonly<Record<string, string>> = {
  'one letter': 'a',
  emoji: '😀👩‍👩‍👧‍👦🏳️‍🌈🇩🇪',
  'control characters': `${CONTROLS}\u007f\u0080\u009f`,
  'a control character alone': '\u0001',
  'byte order mark, replacement, line separators': 'a\ufeffb\ufffdc\u2028d\u2029e',
  'zero width': 'a\u200b\u200d\u2060b',
  'noncharacters and the last code point': '\ufffe\uffff\u{10ffff}',
  'combining marks': `e${'\u0301'.repeat(200)}`,
  'right to left': '\u202eשלום مرحبا\u202c',
  'surrogates, written out': String.raw`\ud83d \ude00 \u0000`,
  'JSON and SQL': String.raw`{"a": [null, "\\"]}'; DROP TABLE doc; -- $1 %s`,
  "a tokeniser's own words": '<|endoftext|><|fim_prefix|>[CLS]</s>',
};

/** Texts that should have no vector, and are no failure. */
const BLANK: Readonly<Record<string, string>> = {
  empty: '',
  blanks: ' \t\r\n\f\v ',
};

/** Whether a text of these alone is blank is the server's to say; neither is a failure. */
const EITHER: Readonly<Record<string, string>> = {
  'a blank that does not break': '\u00a0',
  'an ideographic blank': '\u3000',
  'no width at all': '\u200b',
};

const HUGE = 'lorem ipsum '.repeat(10_000_000 / 12);

/** JSON keeps escapes that no text can be made of: the content expression fails on these rows. */
const UNREADABLE: Readonly<Record<string, string>> = {
  'a lone high surrogate': String.raw`{"text": "a\ud83d b"}`,
  'a lone low surrogate': String.raw`{"text": "a\ude00 b"}`,
  'surrogates in the wrong order': String.raw`{"text": "\ude00\ud83d"}`,
  NUL: String.raw`{"text": "a\u0000b"}`,
};
const READABLE: Readonly<Record<string, string>> = {
  'a pair of surrogates': String.raw`{"text": "\ud83d\ude00"}`,
  plain: '{"text": "plain"}',
  'no text': '{}',
};

type Row = { id: string; text: string | null; vector: number[] | null; hash: string | null; failure: string | null };

test('fault 36: empty, blank, huge (10 MB), emoji, NUL-like control characters, lone surrogates [C or one failure row]', {
  timeout: TIMEOUT_MS,
}, async ({ task }) => {
  const kinds = [TAKEN, BLANK, EITHER, UNREADABLE].map((texts) => Object.keys(texts).length);
  task.meta.tries = kinds.reduce((sum, n) => sum + n, 1);
  await withFaultyProvider({ rows: 20, app: { hides: false } }, async (system) => {
    const { provider, workers, app, db } = system;
    // Sources of their own: the app edits and deletes whatever it finds in `doc`.
    await db.exec(`CREATE TABLE odd (id text PRIMARY KEY, body text);
      CREATE TABLE note (id text PRIMARY KEY, payload json NOT NULL)`);
    await addSources(system);
    app.start();
    await workers.start();
    const texts = { ...TAKEN, ...BLANK, ...EITHER, huge: HUGE };
    for (const [id, text] of Object.entries(texts)) await db.query('INSERT INTO odd VALUES ($1, $2)', [id, text]);
    for (const [id, payload] of Object.entries({ ...UNREADABLE, ...READABLE })) {
      await db.query('INSERT INTO note VALUES ($1, $2)', [id, payload]);
    }
    const failures = 1 + Object.keys(UNREADABLE).length;
    const quiet = async () => {
      const [left] = await db.query<{ n: number }>(
        `SELECT (SELECT count(*) FROM freshvec.change_key WHERE space_id <> $1)
           + (SELECT count(*) FROM freshvec.lease WHERE space_id <> $1) AS n`,
        [system.space.id],
      );
      return left?.n === 0 && (await system.backlog()).failures >= failures;
    };
    await eventually(quiet, { timeoutMs: 60_000, what: 'the odd texts to be worked off' });

    const odd = await rowsOf(system, 'odd', 'body');
    for (const row of odd) expect(faultOf(row, provider.vectorOf), row.id).toBe(undefined);
    const having = (what: (row: Row) => unknown) => odd.filter(what).map(({ id }) => id);
    expect(having(({ vector }) => vector)).toEqual(expect.arrayContaining(Object.keys(TAKEN)));
    expect(having(({ failure }) => failure)).toEqual(['huge']);
    const blank = Object.keys(BLANK);
    expect(having(({ vector, id }) => vector === null && blank.includes(id)).sort()).toEqual(blank.sort());

    const notes = await rowsOf(system, 'note', 'NULL');
    const failed = notes.flatMap(({ id, failure }) => (failure === null ? [] : [`${id}: ${failure}`]));
    expect(failed.sort()).toEqual(
      Object.keys(UNREADABLE)
        .map((id) => `${id}: content_error`)
        .sort(),
    );
    expect(notes.filter(({ vector }) => vector).map(({ id }) => id)).toEqual(['a pair of surrogates', 'plain']);
    const smile = notes.find(({ id }) => id === 'a pair of surrogates');
    expect(smile?.vector?.map(Math.fround)).toEqual([...provider.vectorOf('😀')]);

    // Each is healed by its edit alone.
    await db.query(`UPDATE odd SET body = 'a shorter one' WHERE id = 'huge'`);
    await db.query(`UPDATE note SET payload = '{"text": "mended"}' WHERE id = ANY($1)`, [Object.keys(UNREADABLE)]);
    await app.stop();
    await system.assertFresh();
    const mended = [...(await rowsOf(system, 'odd', 'body')), ...(await rowsOf(system, 'note', `payload ->> 'text'`))];
    for (const row of mended) expect(faultOf(row, provider.vectorOf), row.id).toBe(undefined);
    expect(mended.filter(({ failure }) => failure)).toEqual([]);
    app.assertUndisturbed();
  });
});

async function addSources({ env, space }: System<FaultyProvider>): Promise<void> {
  const client = createClient({ env, configFile: false });
  try {
    for (const [table, sql] of Object.entries({ odd: 'body', note: `payload ->> 'text'` })) {
      await client.sources.add({ table, content: { sql }, model: space.spec, store: 'column', index: 'none' });
    }
  } finally {
    await client.close();
  }
}

function rowsOf({ db }: System<FaultyProvider>, table: string, text: string): Promise<Row[]> {
  return db.query<Row>(
    `SELECT t.id, ${text} AS text, t.embedding::real[] AS vector, t.embedding_hash::text AS hash, f.code AS failure
     FROM ${table} t LEFT JOIN (freshvec.failure f JOIN freshvec.space p ON p.id = f.space_id
       JOIN freshvec.source s ON s.id = p.source_id AND s.name = '${table}') ON f.key = t.id ORDER BY t.id COLLATE "C"`,
  );
}

/** A vector is that of the text; none is there for a text that is blank, or for a row with a failure. */
function faultOf({ text, vector, hash, failure }: Row, vectorOf: (text: string) => Float32Array): string | undefined {
  if (failure !== null) return vector === null ? undefined : 'has failed, and has a vector';
  const blank = text === null || !/\S/.test(text);
  if (vector === null) return blank || Object.values(EITHER).includes(text) ? undefined : 'has no vector';
  if (
    hash?.replaceAll('-', '') !==
    createHash('md5')
      .update(text ?? '')
      .digest('hex')
  )
    return 'has a wrong hash';
  const expected = vectorOf(text ?? '');
  return vector.every((x, i) => Math.fround(x) === expected[i]) ? undefined : 'has a wrong vector';
}
