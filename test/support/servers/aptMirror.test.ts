import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { debianMirror, parseDeb822, parseOneLine } from './aptMirror.js';

let etc: string;
beforeEach(async () => {
  etc = await mkdtemp(path.join(os.tmpdir(), 'etc-'));
  await mkdir(path.join(etc, 'apt/sources.list.d'), { recursive: true });
});
afterEach(() => rm(etc, { recursive: true }));

const write = (file: string, text: string) => writeFile(path.join(etc, file), text);
const debian = () => write('os-release', 'ID=debian\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n');

test('deb822: comments, several stanzas, folded fields, disabled ones', () => {
  const text = [
    'Types: deb',
    '# http://old.example/debian',
    'URIs: http://mirror.example/debian',
    'Suites: bookworm',
    ' bookworm-updates',
    'Components: main contrib',
    '',
    'Types: deb-src',
    'URIs: http://sources.example/debian',
    'Suites: bookworm',
    'Components: main',
    '',
    'Enabled: no',
    'Types: deb',
    'URIs: http://off.example/debian',
    'Suites: bookworm',
    'Components: main',
  ].join('\n');
  expect(parseDeb822(text)).toEqual([
    {
      uri: 'http://mirror.example/debian',
      suites: ['bookworm', 'bookworm-updates'],
      components: ['main', 'contrib'],
    },
  ]);
});

test('one line each: options, comments', () => {
  const text =
    '# deb http://no.example x main\ndeb [arch=amd64 signed-by=/k] http://mirror.example/d stable main # yes\n';
  expect(parseOneLine(text)).toEqual([{ uri: 'http://mirror.example/d', suites: ['stable'], components: ['main'] }]);
});

test("Debian's own sources come before a vendor's that name the same suite", async () => {
  await debian();
  await write('apt/sources.list.d/a-vendor.list', 'deb https://vendor.example bookworm main\n');
  await write('apt/sources.list', 'deb http://mirror.example/debian bookworm main\n');
  expect(await debianMirror(etc)).toBe('http://mirror.example/debian');
});

test('security and vendors with other suites do not count', async () => {
  await debian();
  await write(
    'apt/sources.list.d/node.sources',
    'Types: deb\nURIs: https://n.example\nSuites: nodistro\nComponents: main',
  );
  await write('apt/sources.list', 'deb http://security.example/ bookworm-security main\n');
  expect(await debianMirror(etc)).toBeUndefined();
});

test('another distribution has no Debian mirror', async () => {
  await write('os-release', 'ID=ubuntu\nVERSION_CODENAME=noble\n');
  await write('apt/sources.list', 'deb http://mirror.example/ubuntu noble main\n');
  expect(await debianMirror(etc)).toBeUndefined();
});
