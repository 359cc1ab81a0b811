import type { LabelledQuery } from '../../catalog/migration.js';
import type { Source } from '../../catalog/source.js';
import { FreshvecError } from '../../db/errors.js';

const SHAPE = '{"query": "…", "relevant": ["key", …]}';

/**
 * Reads a file of labelled queries: a JSON array of, or lines each with, {"query": "…", "relevant": ["key", …]}, and with
 * "tenant" where the app searches within one. A key is a text or a number; of a composite one, an array of its values in
 * key order. Queries that are the same, of the same tenant, are merged.
 *
 * Throws FreshvecError `queries_invalid`, which names the line, or the entry of an array.
 */
export function parseQueries(text: string): LabelledQuery[] {
  const content = text.replace(/^\uFEFF/, '');
  const entries = content.trimStart().startsWith('[') ? wholeArray(content) : lines(content);
  if (entries.length === 0) throw invalid('The file of queries is empty', `write one ${SHAPE} a line`);
  const merged = new Map<string, LabelledQuery>();
  for (const { where, value } of entries) {
    const { relevant, ...asked } = entry(where, value);
    const same = JSON.stringify(asked);
    merged.set(same, { ...asked, relevant: [...new Set([...(merged.get(same)?.relevant ?? []), ...relevant])] });
  }
  return [...merged.values()];
}

/** Throws FreshvecError `queries_invalid` where a query names a tenant and the source has none. */
export function refuseTenants({ name, tenantColumn }: Source, queries: readonly LabelledQuery[]): void {
  const tenant = tenantColumn === undefined ? queries.find((query) => query.tenant !== undefined)?.tenant : undefined;
  if (tenant === undefined) return;
  throw invalid(
    `The queries name the tenant "${tenant}", but the source "${name}" has no tenant column`,
    'leave "tenant" away, or add the source with --tenant COLUMN',
  );
}

interface Entry {
  readonly where: string;
  readonly value: unknown;
}

function wholeArray(text: string): Entry[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw notJson(`Line ${lineOf(text, error)} of the queries`, error);
  }
  return Array.isArray(value) ? value.map((item, i) => ({ where: `Entry ${i + 1} of the queries`, value: item })) : [];
}

function lines(text: string): Entry[] {
  return text.split(/\r?\n/).flatMap((line, i) => {
    if (line.trim() === '') return [];
    const where = `Line ${i + 1} of the queries`;
    try {
      return [{ where, value: JSON.parse(line) as unknown }];
    } catch (error) {
      throw notJson(where, error);
    }
  });
}

function entry(where: string, value: unknown): LabelledQuery {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(`${where} is no object`, `write ${SHAPE}`);
  const { query, tenant, relevant, ...rest } = value as Record<string, unknown>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw invalid(`${where} has "${unknown}", which means nothing here`, `write ${SHAPE}`);
  if (typeof query !== 'string' || query.trim() === '')
    throw invalid(`${where} has no text in "query"`, `write ${SHAPE}`);
  if (!Array.isArray(relevant) || relevant.length === 0) {
    throw invalid(
      `${where} names no keys in "relevant"`,
      `write ${SHAPE}, with the keys of the rows that answer the query`,
    );
  }
  const keys = relevant.map((key: unknown) => keyText(where, key));
  return tenant === undefined
    ? { query, relevant: keys }
    : { query, tenant: tenantText(where, tenant), relevant: keys };
}

function tenantText(where: string, tenant: unknown): string {
  if (typeof tenant === 'string' && tenant !== '') return tenant;
  if (typeof tenant === 'number' && Number.isSafeInteger(tenant)) return String(tenant);
  throw invalid(
    `${where} has the tenant ${JSON.stringify(tenant)}`,
    'a tenant is a text or a whole number; leave it away where the app searches all rows',
  );
}

function keyText(where: string, key: unknown): string {
  if (typeof key === 'string' && key !== '') return key;
  if (typeof key === 'number' && Number.isSafeInteger(key)) return String(key);
  if (
    Array.isArray(key) &&
    key.length > 0 &&
    key.every((part) => typeof part === 'string' || Number.isSafeInteger(part))
  ) {
    return JSON.stringify(key.map(String));
  }
  throw invalid(
    `${where} has the key ${JSON.stringify(key)}`,
    'a key is a text or a whole number (over 2^53 as text), a composite one an array of its values',
  );
}

/** The line that V8's message names by its position; the last one where it names none. */
function lineOf(text: string, error: unknown): number {
  const at = /position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1];
  return text.slice(0, at === undefined ? text.length : Number(at)).split('\n').length;
}

function notJson(where: string, error: unknown): FreshvecError {
  const reason = error instanceof Error ? error.message.replace(/^.*?JSON/, 'JSON').split('\n')[0] : String(error);
  return new FreshvecError('queries_invalid', `${where} is not JSON (${reason}): write ${SHAPE}.`, { cause: error });
}

function invalid(what: string, advice: string): FreshvecError {
  return new FreshvecError('queries_invalid', `${what}: ${advice}.`);
}
