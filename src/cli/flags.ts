import { type Command, InvalidArgumentError, Option } from 'commander';
import { LONG_TEXTS } from '../catalog/long-texts.js';
import { DEFAULT_EMBEDDED_DIR } from '../config/config.js';
import type { Settings } from '../config/settings.js';

/** Flags of every command, before or after its name. */
export interface GlobalFlags {
  readonly databaseUrl?: string;
  readonly directUrl?: string;
  readonly redisUrl?: string;
  readonly embedded?: string | true;
  readonly config?: string;
  readonly json?: boolean;
  readonly verbose?: boolean;
}

export function addGlobalFlags(program: Command): Command {
  return program
    .option('--database-url <url>', 'PostgreSQL to work on, in place of DATABASE_URL')
    .option('--direct-url <url>', 'where that is a pooler: the server itself (DATABASE_DIRECT_URL)')
    .option('--redis-url <url>', 'queue on Redis, in place of REDIS_URL')
    .option('--embedded [dir]', `a database of your own in a directory (${DEFAULT_EMBEDDED_DIR}); needs no server`)
    .option('--config <file>', 'configuration file in place of freshvec.config.*')
    .option('--json', 'one JSON document on stdout, logs on stderr')
    .option('--verbose', 'more to read, with stack traces');
}

export function toSettings(flags: GlobalFlags): Settings {
  const { databaseUrl, directUrl, redisUrl, embedded, verbose } = flags;
  return {
    database: {
      ...(databaseUrl === undefined ? {} : { url: databaseUrl }),
      ...(directUrl === undefined ? {} : { directUrl }),
      ...(embedded === undefined ? {} : { embedded }),
    },
    queue: redisUrl === undefined ? {} : { redisUrl },
    log: verbose ? { level: 'debug' } : {},
  };
}

/**
 * `--embedded` may stand before an argument that is not its own (`--embedded memory "some text"`), so what follows is
 * its directory only if it looks like a path: `/…`, `./…`, `.freshvec/…`. `--embedded=DIR` takes any.
 */
export function settleEmbedded(argv: readonly string[]): string[] {
  const end = argv.indexOf('--');
  const before = end < 0 ? argv : argv.slice(0, end);
  const settled: string[] = [];
  for (let i = 0; i < before.length; i += 1) {
    const [word = '', next = ''] = before.slice(i, i + 2);
    if (word !== '--embedded') settled.push(word);
    else if (/^([./\\~]|[A-Za-z]:[\\/])/.test(next)) {
      settled.push(`--embedded=${next}`);
      i += 1;
    } else settled.push(`--embedded=${DEFAULT_EMBEDDED_DIR}`);
  }
  return [...settled, ...argv.slice(before.length)];
}

/** For options that are whole numbers from `least` on. */
export function whole(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < least || text.trim() === '') {
      throw new InvalidArgumentError(`A whole number from ${least} on is needed.`);
    }
    return value;
  };
}

const SECONDS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;

/** `90s`, `15m`, `2h`, `7d` → seconds. */
export function duration(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)([smhd])$/.exec(text.trim()) ?? [];
  const seconds = Number(digits) * SECONDS[unit as keyof typeof SECONDS];
  if (!(seconds > 0)) throw new InvalidArgumentError('A time is needed, such as 90s, 15m, 2h or 7d.');
  return seconds;
}

/** `a,b` → [a, b] */
export function list(text: string): string[] {
  const names = text.split(',').map((name) => name.trim());
  if (names.some((name) => name === '')) throw new InvalidArgumentError('Names with commas between them are needed.');
  return names;
}

/** What becomes of texts that are longer than the model takes. */
export function longTextsOption(standard = ''): Option {
  const choices = 'a failure, a vector of their beginning, or of their pieces';
  return new Option(
    '--long-texts <choice>',
    `texts that are too long for the model: ${choices} ${standard}`.trim(),
  ).choices(LONG_TEXTS);
}

/** Collects `name=value` options into one object. */
export function pairs(text: string, before: Readonly<Record<string, string>> = {}): Record<string, string> {
  const at = text.indexOf('=');
  if (at < 1) throw new InvalidArgumentError('COLUMN=VALUE is needed.');
  return { ...before, [text.slice(0, at)]: text.slice(at + 1) };
}
