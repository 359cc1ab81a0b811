import OpenAI from 'openai';
import type { ModelSpec } from '../../catalog/model.js';
import { EmbedError } from '../port.js';
import type { OpenAISettings } from '../settings.js';
import { accountId } from './account.js';
import { fetchWithErrors } from './bare-errors.js';

const DEFAULT_BASE_URL = 'https://api.openai.com/v1';
/** Microsoft's own hosts, in all clouds. */
const AZURE_HOST = /\.azure\.(com|us|cn)$/;

/** Where requests go: `baseUrl` without query and trailing slash, `query` for each request. */
interface Endpoint {
  readonly baseUrl: string;
  readonly query: Readonly<Record<string, string>>;
  /** Azure's URLs by deployment want the key in `api-key`. */
  readonly keyHeader: 'authorization' | 'api-key';
}

/** A client for one model, and the account that it uses. Throws EmbedError `configuration`. */
export function createClient(settings: OpenAISettings, model: ModelSpec): { client: OpenAI; account: string } {
  const { baseUrl, query, keyHeader } = endpointOf(settings, model);
  const { apiKey = '', organization, project } = settings;
  const extra = extraHeaders(settings);
  const carried = extra.authorization ?? extra['api-key'];
  if (apiKey === '' && carried === undefined && baseUrl === DEFAULT_BASE_URL) {
    throw new EmbedError('configuration', 'set OPENAI_API_KEY, or OPENAI_BASE_URL for a server that needs no key');
  }
  const client = new OpenAI({
    // The client wants one; without a key the header that it would go into is taken away below.
    apiKey: apiKey || 'none',
    baseURL: baseUrl,
    defaultQuery: { ...query },
    defaultHeaders: {
      ...((apiKey === '' || keyHeader === 'api-key') && { authorization: null }),
      ...(apiKey !== '' && keyHeader === 'api-key' && { 'api-key': apiKey }),
      ...extra,
    },
    // null, not undefined: the client must not read the environment, our configuration has done so.
    organization: organization ?? null,
    project: project ?? null,
    adminAPIKey: null,
    webhookSecret: null,
    maxRetries: 0,
    // Its debug log holds the texts.
    logLevel: 'off',
    fetch: fetchWithErrors,
    // A redirect would carry key and texts to a host that nobody configured.
    fetchOptions: { redirect: 'manual' },
  });
  return { client, account: accountId(baseUrl, apiKey || carried, organization, project) };
}

/**
 * Reads the base URL. With an API version (a setting, or in the URL's query, as Azure's portal shows it) it is Azure's:
 * `…/openai/deployments/NAME`, or the resource alone, where the deployment has the model's name. A trailing
 * `/embeddings` is left away.
 */
function endpointOf(settings: OpenAISettings, model: ModelSpec): Endpoint {
  const url = parseBaseUrl(settings.baseUrl || DEFAULT_BASE_URL);
  const query = Object.fromEntries(url.searchParams);
  const version = settings.azureApiVersion || query['api-version'];
  let path = url.pathname.replace(/\/+$/, '').replace(/\/embeddings$/, '');
  const byDeployment = path.includes('/deployments/');
  if (version === undefined) {
    if (byDeployment && AZURE_HOST.test(url.hostname)) {
      throw new EmbedError('configuration', 'a deployment of Azure needs AZURE_OPENAI_API_VERSION');
    }
    return { baseUrl: url.origin + path, query, keyHeader: 'authorization' };
  }
  if (!settings.baseUrl) {
    throw new EmbedError(
      'configuration',
      'AZURE_OPENAI_API_VERSION is set, but OPENAI_BASE_URL does not name a server',
    );
  }
  if (!byDeployment && !path.endsWith('/v1')) {
    path = `${path || '/openai'}/deployments/${encodeURIComponent(model.name)}`;
  }
  return { baseUrl: url.origin + path, query: { ...query, 'api-version': version }, keyHeader: 'api-key' };
}

function parseBaseUrl(baseUrl: string): URL {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    throw new EmbedError('configuration', 'OPENAI_BASE_URL is not an http or https URL');
  }
  if (url.username !== '' || url.password !== '') {
    throw new EmbedError('configuration', 'OPENAI_BASE_URL holds a user or password: use OPENAI_API_KEY instead');
  }
  return url;
}

/** The extra headers by their lower-case names. What could not be sent is refused here: fetch would quote it. */
function extraHeaders({ apiKey, organization, project, headers }: OpenAISettings): Record<string, string> {
  try {
    new Headers({ authorization: apiKey ?? '', organization: organization ?? '', project: project ?? '' });
    return Object.fromEntries(new Headers({ ...headers }));
  } catch {
    throw new EmbedError(
      'configuration',
      'the key, organization, project or headers of models.openai hold characters that HTTP cannot carry',
    );
  }
}
