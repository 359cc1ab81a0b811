/**
 * `node scripts/test.mjs [project…] [-- vitest arguments]`: runs the tests on real servers and ends with the line
 * `N passed, N failed, N skipped`, counted from vitest's own JSON report. Fails when a test failed or none ran.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import Table from 'cli-table3';
import { countTests, failedTests, faultRows } from './testReport.mjs';

const ROOT = path.resolve(import.meta.dirname, '..');

const [projects, passedOn] = splitAtDashes(process.argv.slice(2));
const folder = mkdtempSync(path.join(os.tmpdir(), 'freshvec-test-'));
try {
  const reportFile = path.join(folder, 'report.json');
  const code = await vitest([
    ...projects.map((name) => `--project=${name}`),
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${reportFile}`,
    ...passedOn,
  ]);
  process.exitCode = summarise(readReport(reportFile), code);
} finally {
  rmSync(folder, { recursive: true });
}

/** vitest's exit code; its teardown ends the servers, so a signal is passed on and waited for, not obeyed at once. */
function vitest(args) {
  const require = createRequire(import.meta.url);
  const bin = path.join(path.dirname(require.resolve('vitest/package.json')), 'vitest.mjs');
  const child = spawn(process.execPath, [bin, 'run', '--root', ROOT, ...args], { cwd: ROOT, stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

/** A run that died before it could report has run nothing. */
function readReport(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return { testResults: [] };
  }
}

function summarise(report, vitestCode) {
  const faults = faultRows(report);
  if (faults.length > 0) {
    const table = new Table({ head: ['#', 'fault', 'tries', 'invariants held'], style: { head: [], border: [] } });
    for (const { number, fault, tries, held } of faults) table.push([number, fault, tries, held]);
    console.log(table.toString());
  }
  const { passed, failed, skipped } = countTests(report);
  for (const line of failedTests(ROOT, report)) console.log(`FAILED ${line}`);
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  if (vitestCode !== 0) return vitestCode;
  return failed > 0 || passed === 0 ? 1 : 0;
}

function splitAtDashes(args) {
  const at = args.indexOf('--');
  return at < 0 ? [args, []] : [args.slice(0, at), args.slice(at + 1)];
}
