import { existsSync } from 'node:fs';
import { extname, isAbsolute, resolve } from 'node:path';
import { loadConfig as loadC12, SUPPORTED_EXTENSIONS } from 'c12';
import { ConfigError, invalidSettings } from './errors.js';
import { type Settings, settingsSchema } from './settings.js';

export interface FileSettings {
  readonly settings: Settings;
  /** Path of the file; undefined where there is none. */
  readonly file: string | undefined;
}

/**
 * Reads `freshvec.config.{ts,js,mjs,json,yaml,toml,…}` in `cwd`, or the file that is named, which then must exist.
 * Throws ConfigError.
 */
export async function readSettingsFile(cwd: string, named: string | undefined): Promise<FileSettings> {
  if (named !== undefined && !existsSync(isAbsolute(named) ? named : resolve(cwd, named))) {
    throw new ConfigError('config_invalid', `There is no configuration file ${named}.`);
  }
  const { config, file } = await load(cwd, named);
  if (file === undefined) return { settings: {}, file };
  const parsed = settingsSchema.safeParse(config);
  if (!parsed.success) throw invalidSettings(parsed.error, `The file ${file}`, (path) => path);
  return { settings: parsed.data, file };
}

async function load(cwd: string, named: string | undefined): Promise<{ config: unknown; file: string | undefined }> {
  try {
    const { config, _configFile } = await loadC12({
      name: 'freshvec',
      cwd,
      ...(named === undefined ? {} : { configFile: resolve(cwd, named) }),
      // Settings come from this one file; what else c12 would look at would surprise.
      rcFile: false,
      packageJson: false,
      dotenv: false,
      envName: false,
      extend: false,
      giget: false,
    });
    return { config, file: _configFile };
  } catch (error) {
    throw unreadable(error, named === undefined ? foundIn(cwd) : resolve(cwd, named));
  }
}

/** The file that is taken where none is named: c12 does not say which one it failed at. */
function foundIn(cwd: string): string {
  const stems = ['freshvec.config', '.config/freshvec', '.config/freshvec.config'];
  const files = stems.flatMap((stem) => SUPPORTED_EXTENSIONS.map((ending) => resolve(cwd, `${stem}${ending}`)));
  return files.find((file) => existsSync(file)) ?? resolve(cwd, 'freshvec.config');
}

/** Files that are data, and may hold keys: their parsers quote what stands around a mistake. */
const DATA: Readonly<Record<string, string>> = {
  '.json': 'JSON',
  '.jsonc': 'JSON',
  '.json5': 'JSON5',
  '.yaml': 'YAML',
  '.yml': 'YAML',
  '.toml': 'TOML',
};

function unreadable(error: unknown, file: string): ConfigError {
  const format = DATA[extname(file)];
  const message = error instanceof Error ? error.message : String(error);
  if (format === undefined || field(error, 'syscall') !== undefined) {
    return new ConfigError('config_invalid', `The configuration file ${file} could not be read: ${message}`, {
      cause: error,
    });
  }
  // Not as the cause either, which has the whole text in it.
  const told = [placeOf(error), reasonOf(message)].flatMap((part) => part ?? []).join(', ');
  return new ConfigError(
    'config_invalid',
    `The file ${file} is not valid ${format}${told === '' ? '.' : `: ${told}.`}`,
  );
}

/** Where the mistake is: js-yaml counts from 0, smol-toml and json5 from 1. */
function placeOf(error: unknown): string | undefined {
  const mark = field(error, 'mark');
  const from = mark === undefined ? 0 : 1;
  const line = field(mark ?? error, 'line') ?? field(error, 'lineNumber');
  const column = field(mark ?? error, 'column') ?? field(error, 'columnNumber');
  if (typeof line !== 'number' || typeof column !== 'number') return undefined;
  return `line ${line + from}, column ${column + from}`;
}

/** What is wrong, where the parser says it in words alone: quotes, colons and the like go before a part of the file. */
function reasonOf(message: string): string | undefined {
  const [first = ''] = message.split('\n', 1);
  const reason = first.replace(/^Invalid TOML document: /, '').replace(/ \(\d+:\d+\)$/, '');
  return /^[a-z ,;]+$/.test(reason) ? reason : undefined;
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}
