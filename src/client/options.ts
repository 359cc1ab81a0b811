import type { Environment } from '../config/environment.js';
import type { LoadOptions } from '../config/load.js';
import type { Settings } from '../config/settings.js';
import type { EmbeddingModel } from '../embed/port.js';

/** Everything is optional: what is not given comes from the environment, then from `freshvec.config.*`. */
export interface ClientOptions {
  /** `postgres://…`; wins over DATABASE_URL. */
  readonly databaseUrl?: string | undefined;
  /** Where `databaseUrl` is a pooler: the server itself. */
  readonly directUrl?: string | undefined;
  readonly redisUrl?: string | undefined;
  /** The embedded database: true for `.freshvec/db`, or its directory. Never chosen unless asked for. */
  readonly embedded?: boolean | string | undefined;
  /** Everything else that a configuration file may say. */
  readonly settings?: Settings | undefined;
  /** Models that no spec alone can open: `fromAiSdk(…)`. Worker processes of the Procfile do not know them. */
  readonly models?: readonly EmbeddingModel[] | undefined;
  /** Configuration file in place of `freshvec.config.*` in the working directory; false for none. */
  readonly configFile?: string | false | undefined;
  /** Variables in place of the process's own. */
  readonly env?: Environment | undefined;
  readonly cwd?: string | undefined;
  /** Told of errors that belong to no call and were survived; by default a line on stderr. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** The options as the strongest layer of the configuration. */
export function toLoadOptions(options: ClientOptions): LoadOptions {
  const { databaseUrl, directUrl, redisUrl, embedded, settings = {} } = options;
  const flags: Settings = {
    ...settings,
    database: {
      ...settings.database,
      ...(databaseUrl === undefined ? {} : { url: databaseUrl }),
      ...(directUrl === undefined ? {} : { directUrl }),
      ...(embedded === undefined ? {} : { embedded }),
    },
    queue: { ...settings.queue, ...(redisUrl === undefined ? {} : { redisUrl }) },
  };
  return { flags, file: options.configFile, env: options.env, cwd: options.cwd };
}
