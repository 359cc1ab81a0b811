import { existsSync } from 'node:fs';
import { isAbsolute, resolve } from 'node:path';
import { loadConfig as loadC12 } from 'c12';
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
    const reason = error instanceof Error ? error.message : String(error);
    throw new ConfigError('config_invalid', `The configuration file could not be read: ${reason}`, { cause: error });
  }
}
