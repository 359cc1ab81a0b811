import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { packageRoot } from '../../src/config/package-root.js';
import { ensureBuilt } from '../faults/support/build.js';

const npm = (...args: string[]) =>
  promisify(execFile)('npm', ['run', '--silent', ...args], { cwd: packageRoot(), timeout: 280_000 });

test('the demo moves to another model and back: no search fails, none mixes models, nothing is stale', async () => {
  await ensureBuilt();
  const { stdout } = await npm('demo', '--', '--once', '--json');
  const report = JSON.parse(stdout);
  expect(report).toMatchObject({
    documents: report.embedded,
    reembedding: {
      from: expect.stringMatching(/^static\/mini@128#/),
      to: expect.stringMatching(/^static\/mini@256#/),
      failed: 0,
      mixed: 0,
      staleAfterRollback: 0,
    },
  });
  expect(report.documents).toBeGreaterThan(0);
  expect(report.reembedding.searches).toBeGreaterThan(20);
}, 420_000);
