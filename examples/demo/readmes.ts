import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** One section of a README: what becomes a row. */
export interface Section {
  readonly package: string;
  readonly title: string;
  readonly body: string;
}

/** Sections shorter than this are badges and tables of contents. */
const MIN_CHARACTERS = 80;

/** The README files of the packages under `node_modules`, cut at their headings, in a stable order. */
export async function readSections(modules: string): Promise<Section[]> {
  const sections: Section[] = [];
  for (const name of await packageNames(modules)) {
    const text = await readReadme(join(modules, name));
    if (text !== undefined) sections.push(...cut(name, text));
  }
  return sections;
}

async function packageNames(modules: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of (await readdir(modules)).sort()) {
    if (entry.startsWith('.')) continue;
    if (!entry.startsWith('@')) names.push(entry);
    else names.push(...(await readdir(join(modules, entry))).sort().map((child) => `${entry}/${child}`));
  }
  return names;
}

async function readReadme(folder: string): Promise<string | undefined> {
  const files = await readdir(folder).catch(() => []);
  const file = files.find((name) => /^readme(\.md)?$/i.test(name));
  return file === undefined ? undefined : (await readFile(join(folder, file), 'utf8')).replaceAll('\0', '');
}

/** Splits at ATX headings outside code fences. */
function cut(name: string, text: string): Section[] {
  const sections: Section[] = [];
  let title = name;
  let lines: string[] = [];
  let fenced = false;
  const finish = () => {
    const body = lines.join('\n').trim();
    if (body.length >= MIN_CHARACTERS) sections.push({ package: name, title, body });
    lines = [];
  };
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*(```|~~~)/.test(line)) fenced = !fenced;
    const heading = fenced ? null : /^#{1,6}\s+(.*?)\s*#*$/.exec(line);
    if (heading === null) lines.push(line);
    else {
      finish();
      title = plain(heading[1] ?? name) || name;
    }
  }
  finish();
  return sections;
}

/** A heading without links, images and tags. */
function plain(markdown: string): string {
  return markdown
    .replace(/!\[[^\]]*\]\([^)]*\)/g, '')
    .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .replace(/<[^>]*>/g, '')
    .replace(/[*_`]/g, '')
    .trim();
}
