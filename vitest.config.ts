import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';

/** Folders with a project of their own, or that another command runs; the rest of `test/` mirrors `src/`. */
const NOT_QUICK = ['conformance', 'property', 'faults', 'slow', 'browser'];

const common = {
  testTimeout: 60_000,
  hookTimeout: 60_000,
  pool: 'forks' as const,
  // Threads that sources start are TypeScript too.
  execArgv: ['--import', new URL('test/support/ts-threads.mjs', import.meta.url).href],
};

/** Projects run one after the other, in this order, so the faults do not disturb the rest. */
function project(name: string, groupOrder: number, include: string, exclude: string[] = []) {
  return {
    test: { ...common, name, include: [include], exclude, sequence: { groupOrder } },
  } satisfies TestProjectInlineConfiguration;
}

export default defineConfig({
  test: {
    globalSetup: ['test/support/globalSetup.ts'],
    maxWorkers: 2,
    projects: [
      project(
        'quick',
        0,
        'test/**/*.test.ts',
        NOT_QUICK.map((folder) => `test/${folder}/**`),
      ),
      project('conformance', 1, 'test/conformance/**/*.test.ts'),
      project('property', 2, 'test/property/**/*.test.ts'),
      project('faults', 3, 'test/faults/**/*.test.ts'),
    ],
  },
});
