import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

/** One line or stanza of apt's sources, as far as the choice of a mirror needs it. */
export interface AptSource {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly components: readonly string[];
}

/** The machine's own Debian mirror: where it gets `main` of its own release from. Undefined when it is not Debian. */
export async function debianMirror(etc = '/etc'): Promise<string | undefined> {
  const release = parseOsRelease(await readFile(path.join(etc, 'os-release'), 'utf8').catch(() => ''));
  if (release.ID !== 'debian') return undefined;
  for (const file of await sourceFiles(path.join(etc, 'apt'))) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const sources = file.endsWith('.sources') ? parseDeb822(text) : parseOneLine(text);
    const match = sources.find(
      ({ suites, components }) => suites.includes(release.VERSION_CODENAME ?? '') && components.includes('main'),
    );
    if (match) return match.uri;
  }
  return undefined;
}

/** Debian's own files first: other vendors also publish a suite with the release's name and a component `main`. */
async function sourceFiles(apt: string): Promise<string[]> {
  const folder = path.join(apt, 'sources.list.d');
  const names = (await readdir(folder).catch(() => [])).filter((name) => /\.(sources|list)$/.test(name)).sort();
  const own = names.filter((name) => name.startsWith('debian'));
  const others = names.filter((name) => !name.startsWith('debian'));
  return [
    ...own.map((name) => path.join(folder, name)),
    path.join(apt, 'sources.list'),
    ...others.map((name) => path.join(folder, name)),
  ];
}

export function parseDeb822(text: string): AptSource[] {
  const withoutComments = text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n');
  return withoutComments.split(/\n\s*\n/).flatMap((stanza) => {
    const field = (name: string): string[] => {
      const match = new RegExp(`^${name}:((?:.*)(?:\\n[ \\t].*)*)`, 'im').exec(stanza);
      return match?.[1]?.split(/\s+/).filter(Boolean) ?? [];
    };
    if (!field('Types').includes('deb') || field('Enabled')[0] === 'no') return [];
    return field('URIs').map((uri) => ({ uri, suites: field('Suites'), components: field('Components') }));
  });
}

export function parseOneLine(text: string): AptSource[] {
  return text.split('\n').flatMap((line) => {
    const match = /^\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+([^#]+)/.exec(line);
    const [, uri, suite, components] = match ?? [];
    if (!uri || !suite || !components) return [];
    return [{ uri, suites: [suite], components: components.split(/\s+/).filter(Boolean) }];
  });
}

function parseOsRelease(text: string): Record<string, string> {
  const pairs = text.matchAll(/^([A-Z_]+)="?(.*?)"?$/gm);
  return Object.fromEntries([...pairs].map(([, key = '', value = '']) => [key, value]));
}
