import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type LoadOptions, loadConfig, requireDatabase } from '../../src/config/load.js';
import { maskConfig, maskText, maskUrl } from '../../src/config/mask.js';
import { THROTTLE_DEFAULTS } from '../../src/config/throttle.js';

const URL_A = 'postgres://app:secret@db.internal:5432/app';

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'freshvec-config-'));
});
afterEach(() => rmSync(cwd, { recursive: true }));

const load = (options: LoadOptions = {}) => loadConfig({ cwd, env: {}, ...options });
const file = (name: string, text: string) => writeFileSync(join(cwd, name), text);

describe('precedence', () => {
  test('flags before environment before file before defaults', async () => {
    file('freshvec.config.json', JSON.stringify({ worker: { slots: 7, batchKeys: 70 }, database: { url: URL_A } }));
    const env = { FRESHVEC_SLOTS: '8', DATABASE_URL: 'postgres://env/db' };
    const flags = { database: { url: 'postgres://flag/db' } };
    expect(await load()).toMatchObject({
      worker: { slots: 7, batchKeys: 70, graceMs: 20_000 },
      database: { url: URL_A },
    });
    expect(await load({ env })).toMatchObject({
      worker: { slots: 8, batchKeys: 70 },
      database: { url: 'postgres://env/db' },
    });
    expect(await load({ env, flags })).toMatchObject({ database: { url: 'postgres://flag/db', poolSize: 20 } });
  });

  test('a direct URL goes with the database URL that it was given beside, or after', async () => {
    const env = { DATABASE_URL: 'postgres://env/db', DATABASE_DIRECT_URL: 'postgres://direct/db' };
    expect(await load({ env })).toMatchObject({ database: { directUrl: 'postgres://direct/db' } });
    const other = await load({ env, flags: { database: { url: 'postgres://flag/db' } } });
    expect(other.database).toMatchObject({ url: 'postgres://flag/db', directUrl: undefined });
    const beside = { url: 'postgres://flag/db', directUrl: 'postgres://flag-direct/db' };
    expect(await load({ env, flags: { database: beside } })).toMatchObject({ database: beside });
    file('freshvec.config.json', JSON.stringify({ database: { url: URL_A } }));
    expect(await load({ env: { DATABASE_DIRECT_URL: 'postgres://direct/db' } })).toMatchObject({
      database: { url: URL_A, directUrl: 'postgres://direct/db' },
    });
  });

  test('defaults', async () => {
    expect(await load()).toEqual({
      database: undefined,
      queue: { backend: 'postgres' },
      models: {
        openai: {},
        onnx: {},
        fake: { latencyMs: 0 },
        requestTimeoutMs: 30_000,
      },
      budget: {},
      spend: {},
      prices: {},
      cache: { maxBytes: 0 },
      worker: { slots: 3, batchKeys: 200, graceMs: 20_000 },
      maintenance: { everyMs: {}, timeZone: 'UTC', lockTimeoutMs: 600_000, bloatRatio: 1.5, recallTarget: 0.95 },
      reembed: {
        index: {},
        gates: {
          pendingSeconds: 5,
          failedShare: 0.001,
          recomputedRows: 10,
          recall: 0.98,
          recallQueries: 50,
          efSearch: 80,
          overlapRows: 50,
          labelledDrop: 0.02,
          smallRows: 10_000,
        },
      },
      http: { host: '127.0.0.1', port: 0 },
      throttle: THROTTLE_DEFAULTS,
      freshness: { boundSeconds: 30 },
      log: { level: 'info' },
      file: undefined,
    });
  });

  test('a bound of the throttle may be set, kept, or switched off, layer by layer', async () => {
    file(
      'freshvec.config.json',
      JSON.stringify({ throttle: { replicaLagSeconds: 3, lockWaiters: null, diskPath: 'pg' } }),
    );
    const { throttle } = await load({ flags: { throttle: { replicaLagSeconds: null, lockWaitMs: undefined } } });
    expect(throttle).toEqual({
      ...THROTTLE_DEFAULTS,
      replicaLagSeconds: null,
      lockWaiters: null,
      diskPath: join(cwd, 'pg'),
    });
  });

  test.each([
    [{ replicaLagSecond: 1 }, /throttle\.replicaLagSecond.*did you mean "replicaLagSeconds"/],
    [{ replicaLagSeconds: 0 }, /throttle\.replicaLagSeconds/],
    [{ deadRowShare: 1 }, /throttle\.deadRowShare: must be below 1/],
    [{ probeBaselineTimes: 1 }, /throttle\.probeBaselineTimes: must be over 1/],
    [{ probeSql: ' ' }, /throttle\.probeSql: must not be empty/],
  ])('the throttle %j is refused', async (throttle, message) => {
    file('freshvec.config.json', JSON.stringify({ throttle }));
    await expect(load()).rejects.toThrow(message);
  });

  test('TypeScript files are read, and one may be named', async () => {
    file('freshvec.config.ts', 'const slots: number = 5;\nexport default { worker: { slots } };\n');
    file('other.mjs', 'export default { worker: { slots: 6 } };\n');
    expect((await load()).worker.slots).toBe(5);
    const named = await load({ file: 'other.mjs' });
    expect(named.worker.slots).toBe(6);
    expect(named.file).toBe(join(cwd, 'other.mjs'));
    expect((await load({ file: false })).worker.slots).toBe(3);
    await expect(load({ file: 'missing.ts' })).rejects.toThrow(/no configuration file missing\.ts/);
  });

  test('the OpenAI variables under the names that people know', async () => {
    const env = {
      OPENAI_API_KEY: 'sk-1',
      OPENAI_BASE_URL: 'http://127.0.0.1:1/v1',
      OPENAI_ORG_ID: 'org',
      OPENAI_PROJECT_ID: 'p',
    };
    const openai = { apiKey: 'sk-1', baseUrl: 'http://127.0.0.1:1/v1', organization: 'org', project: 'p' };
    expect((await load({ env })).models.openai).toEqual(openai);
  });

  test('empty variables are not set', async () => {
    expect((await load({ env: { DATABASE_URL: '', REDIS_URL: ' ' } })).database).toBeUndefined();
  });

  test('the result is frozen through and through', async () => {
    const config = await load({ env: { DATABASE_URL: URL_A } });
    expect(Object.isFrozen(config)).toBe(true);
    expect(Object.isFrozen(config.models.openai)).toBe(true);
  });
});

describe('the database', () => {
  test('is never chosen silently', async () => {
    const config = await load();
    expect(() => requireDatabase(config)).toThrow(/DATABASE_URL.*--embedded/);
  });

  test('embedded: the default directory, or one that is named; the flag wins over DATABASE_URL', async () => {
    const env = { DATABASE_URL: URL_A, REDIS_URL: 'redis://localhost' };
    const embedded = await load({ env, flags: { database: { embedded: true } } });
    expect(embedded.database).toEqual({ kind: 'pglite', dataDir: join(cwd, '.freshvec/db') });
    expect(embedded.queue).toEqual({ backend: 'pglite' });
    const named = await load({ flags: { database: { embedded: 'data' } } });
    expect(named.database).toEqual({ kind: 'pglite', dataDir: join(cwd, 'data') });
    file('freshvec.config.json', '{"database":{"embedded":true}}');
    expect((await load({ env })).database?.kind).toBe('postgres');
    expect((await load()).database?.kind).toBe('pglite');
    // Said to be none, it is none, whatever a weaker layer says.
    expect((await load({ flags: { database: { embedded: false } } })).database).toBeUndefined();
    expect((await load({ env, flags: { database: { embedded: false } } })).database?.kind).toBe('postgres');
  });

  test('both at once are refused', async () => {
    await expect(load({ flags: { database: { embedded: true, url: URL_A } } })).rejects.toMatchObject({
      code: 'config_invalid',
    });
  });
});

describe('the queue', () => {
  test('REDIS_URL means redis, unless told otherwise', async () => {
    const env = { DATABASE_URL: URL_A, REDIS_URL: 'redis://localhost' };
    expect((await load({ env })).queue).toEqual({ backend: 'redis', redisUrl: 'redis://localhost' });
    expect((await load({ env, flags: { queue: { backend: 'postgres' } } })).queue).toEqual({ backend: 'postgres' });
    expect((await load({ env: { DATABASE_URL: URL_A } })).queue).toEqual({ backend: 'postgres' });
  });

  test('what does not go together is refused', async () => {
    const on = (backend: 'redis' | 'postgres' | 'pglite', flags: object) =>
      load({ flags: { ...flags, queue: { backend } } });
    await expect(on('redis', {})).rejects.toThrow(/REDIS_URL is not set/);
    await expect(on('pglite', { database: { url: URL_A } })).rejects.toThrow(/does not go with a PostgreSQL server/);
    await expect(on('postgres', { database: { embedded: true } })).rejects.toThrow(
      /does not go with the embedded database/,
    );
  });
});

test('bounds of gates that are given stand beside the defaults of the others, the strongest layer first', async () => {
  file('freshvec.config.json', JSON.stringify({ reembed: { gates: { recall: 0.9, efSearch: 200 } } }));
  const { reembed } = await load({ flags: { reembed: { gates: { recall: 0.95, recomputedLikeness: 0.8 } } } });
  expect(reembed.gates).toMatchObject({ recall: 0.95, efSearch: 200, recomputedLikeness: 0.8, labelledDrop: 0.02 });
});

describe('mistakes', () => {
  const cases: [string, unknown, RegExp][] = [
    ['a misspelt group', { databse: {} }, /no setting "databse"; did you mean "database"\?/],
    ['a misspelt key', { worker: { slot: 3 } }, /no setting "worker\.slot"; did you mean "slots"\?/],
    ['another spelling', { database: { direct_url: URL_A } }, /did you mean "directUrl"\?/],
    ['the wrong place', { slots: 3 }, /no setting "slots"; did you mean "worker\.slots"\?/],
    ['nothing near', { worker: { colour: 1 } }, /no setting "worker\.colour"; there are: slots, batchKeys, graceMs\./],
    ['a wrong type', { worker: { slots: 'many' } }, /worker\.slots: .*expected number/],
    ['a share over 1', { reembed: { gates: { recall: 98 } } }, /reembed\.gates\.recall: .*<=1/],
    ['too few candidates for 10 neighbours', { reembed: { gates: { efSearch: 10 } } }, /efSearch: .*>=11/],
    ['out of range', { worker: { slots: 0 } }, /worker\.slots: .*>=1/],
  ];
  test.each(cases)('%s', async (_, settings, message) => {
    file('freshvec.config.json', JSON.stringify(settings));
    await expect(load()).rejects.toThrow(message);
    await expect(load()).rejects.toMatchObject({ code: 'config_invalid', name: 'ConfigError' });
  });

  test('a bad variable is named, its value is not told', async () => {
    const error = await load({ env: { DATABASE_URL: 'mysql://u:hunter2@h/d' } }).catch((e: unknown) => e);
    expect(String(error)).toMatch(/DATABASE_URL: must begin with postgres:\/\//);
    expect(String(error)).not.toContain('hunter2');
    await expect(load({ env: { FRESHVEC_SLOTS: 'x' } })).rejects.toThrow(/FRESHVEC_SLOTS/);
  });

  test('a file that cannot be read says why', async () => {
    file('freshvec.config.json', '{ "worker": ');
    await expect(load()).rejects.toMatchObject({ code: 'config_invalid' });
    file('freshvec.config.json', '[1]');
    await expect(load()).rejects.toMatchObject({ code: 'config_invalid' });
  });
});

describe('masking', () => {
  test('passwords and keys never show', async () => {
    const env = {
      DATABASE_URL: URL_A,
      DATABASE_DIRECT_URL: 'postgres://app@h/d?password=hunter2&sslmode=require',
      REDIS_URL: 'redis://:hunter2@cache/0',
      OPENAI_API_KEY: 'sk-hunter2',
      OPENAI_BASE_URL: 'https://u:hunter2@proxy/v1',
    };
    const shown = JSON.stringify(maskConfig(await load({ env })));
    expect(shown).not.toMatch(/hunter2|secret/);
    expect(shown).toContain('postgres://app:***@db.internal:5432/app');
    expect(shown).toContain('sslmode=require');
  });

  test('URLs inside text, and what is no URL', () => {
    expect(maskText('connect to postgres://u:p@h/d failed')).toBe('connect to postgres://***@h/d failed');
    expect(maskText('Incorrect API key provided: sk-abcdefghijkl.')).toBe('Incorrect API key provided: ***.');
    expect(maskUrl('no url')).toBe('***');
  });
});

describe('a file that cannot be read', () => {
  const KEY = 'hunter2-is-no-sk-key';
  test.each([
    [
      'yaml',
      `models:\n  openai:\n    apiKey: ${KEY}\n   baseUrl: x\n`,
      /YAML: line 4, column 4, bad indentation of a map/,
    ],
    ['yml', `models:\n  openai: {apiKey: ${KEY}, x: [}\n`, /YAML: line 2, column \d+/],
    ['yaml', `apiKey: *${KEY}\n`, /YAML: line 1, column \d+\.$/],
    ['yaml', `apiKey: !${KEY} x\n`, /YAML: line 1, column \d+\.$/],
    ['toml', `[models.openai]\napiKey = "${KEY}\n`, /TOML: line \d, column \d+/],
    ['toml', `[models.openai]\napiKey = ${KEY}\n`, /TOML: line 2, column 10, invalid value\.$/],
    ['json5', `{ apiKey: '${KEY}' baseUrl: 3 }`, /JSON5: line 1, column \d+\.$/],
    ['json', `{ "apiKey": ${KEY} }`, /is not valid JSON/],
    ['json', `{ "apiKey": "${KEY}" "b": 3 }`, /is not valid JSON/],
  ])('says where it is wrong, and not what stands there: %s %j', async (ending, text, told) => {
    file(`freshvec.config.${ending}`, text);
    for (const options of [{}, { file: `freshvec.config.${ending}` }]) {
      const error = await load(options).catch((reason: unknown) => reason);
      expect(error).toMatchObject({
        name: 'ConfigError',
        code: 'config_invalid',
        message: expect.stringMatching(told),
      });
      expect((error as Error).message).toContain(join(cwd, `freshvec.config.${ending}`));
      expect(inspect(error, { depth: 9, showHidden: true })).not.toMatch(/hunter2/);
    }
  });
});

describe('a database URL that cannot be read', () => {
  const SECRET = 'hunter2';
  test.each([
    ['a # in the password', `postgres://app:${SECRET}#x@db/app`],
    ['a # behind a number', `postgres://app:1#${SECRET}@db/app`],
    ['a / in the password', `postgres://app:${SECRET}/x@db/app`],
    ['a port that is no number', `postgres://app:${SECRET}@db:54x/app`],
    ['an escape that is no UTF-8', `postgres://app:${SECRET}%E0%A4@db/app`],
  ])('names the setting and says what to do: %s', async (_, url) => {
    for (const name of ['DATABASE_URL', 'DATABASE_DIRECT_URL']) {
      const error = await load({ env: { DATABASE_URL: URL_A, [name]: url } }).catch((caught: unknown) => caught);
      expect(error).toMatchObject({
        code: 'config_invalid',
        message: expect.stringMatching(new RegExp(`^The environment cannot be used\\. ${name}: .*# as %23`)),
      });
      expect(JSON.stringify(error) + String(error)).not.toContain(SECRET);
    }
    await expect(load({ flags: { database: { url } } })).rejects.toThrow(/database\.url: /);
  });

  test.each([
    'postgresql:///app?host=/var/run/postgresql',
    'postgres://app@/app',
    'postgres://app:100%@db/app',
    'postgres://app:p%23w@[::1]:5432/app',
    'postgres://%2Fvar%2Frun/app',
  ])('is not one that works: %s', async (url) => {
    await expect(load({ env: { DATABASE_URL: url } })).resolves.toMatchObject({ database: { url } });
  });

  test('names no other fault than the first', async () => {
    const message = 'DATABASE_URL: must begin with postgres:// or postgresql://.';
    await expect(load({ env: { DATABASE_URL: 'mysql://a:54x#' } })).rejects.toThrow(`cannot be used. ${message}`);
  });
});
