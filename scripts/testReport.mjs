import path from 'node:path';

/**
 * Reads vitest's JSON report. A file that failed without a failed test in it (an import error, a failed hook) counts as
 * one failure: otherwise a suite that never ran would look like no failure at all.
 *
 * @param {{testResults: {status: string, assertionResults: {status: string}[]}[]}} report
 */
export function countTests(report) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of report.testResults) {
    const statuses = file.assertionResults.map(({ status }) => status);
    for (const status of statuses) {
      if (status === 'passed') counts.passed += 1;
      else if (status === 'failed') counts.failed += 1;
      else counts.skipped += 1;
    }
    if (file.status === 'failed' && !statuses.includes('failed')) counts.failed += 1;
  }
  return counts;
}

/**
 * What failed, a line each: file, names, and the first line of why. A file without a failed test in it says its own.
 *
 * @param {string} root what file names are relative to
 * @param {{testResults: {name: string, status: string, message?: string, assertionResults: {fullName: string, status: string, failureMessages?: string[]}[]}[]}} report
 */
export function failedTests(root, report) {
  return report.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const file = path.relative(root, name);
    const failed = assertionResults.filter((test) => test.status === 'failed');
    if (failed.length === 0) return status === 'failed' ? [`${file}: ${firstLine(message)}`] : [];
    return failed.map(({ fullName, failureMessages }) => `${file} > ${fullName}: ${firstLine(failureMessages?.[0])}`);
  });
}

function firstLine(message) {
  return (message ?? '').split('\n', 1)[0];
}

const FAULT = /^fault (\d+): (.+?) \[([^\]]*)\]$/;

/**
 * The rows of the fault matrix that ran, by number. A fault is a test, or a describe with several tests, named
 * `fault 01: worker SIGKILLed after claim [C F]`; `meta.tries` says how often it was injected, else each test counts one.
 *
 * @param {{testResults: {assertionResults: {title: string, ancestorTitles: string[], status: string, meta?: {tries?: number}}[]}[]}} report
 */
export function faultRows(report) {
  const rows = new Map();
  for (const test of report.testResults.flatMap(({ assertionResults }) => assertionResults)) {
    const match = [...test.ancestorTitles, test.title].map((title) => FAULT.exec(title)).find(Boolean);
    if (!match) continue;
    const [name, number, fault, invariants] = match;
    const row = rows.get(name) ?? { number: Number(number), fault, invariants, tries: 0, statuses: new Set() };
    row.statuses.add(test.status);
    if (test.status === 'passed' || test.status === 'failed') row.tries += test.meta?.tries ?? 1;
    rows.set(name, row);
  }
  return [...rows.values()].sort((a, b) => a.number - b.number).map(withVerdict);
}

function withVerdict({ number, fault, invariants, tries, statuses }) {
  let held = invariants;
  if (statuses.has('failed')) held = `BROKEN (of ${invariants})`;
  else if (!statuses.has('passed')) held = 'not run';
  else if (statuses.size > 1) held = `${invariants} (in part: some tests skipped)`;
  return { number, fault, tries, held };
}
