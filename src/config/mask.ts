import type { Config } from './config.js';

const MASK = '***';
const SECRET_PARAMETER = /(password|secret|token|key|credential|sig)/i;

/** The configuration as it may be shown: passwords in URLs and keys masked. */
export function maskConfig(config: Config): Config {
  const { database, queue, models } = config;
  return {
    ...config,
    database:
      database?.kind === 'postgres'
        ? { ...database, url: maskUrl(database.url), directUrl: database.directUrl && maskUrl(database.directUrl) }
        : database,
    queue: queue.backend === 'redis' ? { ...queue, redisUrl: maskUrl(queue.redisUrl) } : queue,
    models: {
      ...models,
      openai: {
        ...models.openai,
        apiKey: models.openai.apiKey && MASK,
        baseUrl: models.openai.baseUrl && maskUrl(models.openai.baseUrl),
        headers: models.openai.headers && maskValues(models.openai.headers),
      },
    },
  };
}

/** Header names tell what is set; any value may be a key. */
function maskValues(headers: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.keys(headers).map((name) => [name, MASK]));
}

/** A URL without its password and without the values of parameters that hold secrets. */
export function maskUrl(url: string): string {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch {
    return MASK;
  }
  if (parsed.password !== '') parsed.password = MASK;
  for (const name of parsed.searchParams.keys()) if (SECRET_PARAMETER.test(name)) parsed.searchParams.set(name, MASK);
  return parsed.href;
}

/** Text, such as another library's error message, with the credentials of every URL in it masked. */
export function maskText(text: string): string {
  return text.replaceAll(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi, `$1${MASK}@`).replaceAll(/\bsk-[\w-]{8,}/g, MASK);
}
