import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';

/** Folders with a project of their own, or that another command runs; the rest of `test/` mirrors `src/`. */
const NOT_QUICK = ['processes', 'conformance', 'property', 'faults', 'slow', 'browser'];

const common = {
  testTimeout: 60_000,
  hookTimeout: 60_000,
  pool: 'forks' as const,
  // Threads that sources start are TypeScript too.
  execArgv: ['--import', new URL('test/support/ts-threads.mjs', import.meta.url).href],
};

/** Projects run one after the other, in this order, so the faults do not disturb the rest. */
function project(
  name: string,
  groupOrder: number,
  include: string,
  more: { exclude?: string[]; maxWorkers?: number } = {},
) {
  return {
    test: { ...common, name, include: [include], sequence: { groupOrder }, ...more },
  } satisfies TestProjectInlineConfiguration;
}

export default defineConfig({
  test: {
    globalSetup: ['test/support/globalSetup.ts'],
    maxWorkers: 2,
    projects: [
      project('quick', 0, 'test/**/*.test.ts', {
        exclude: NOT_QUICK.map((folder) => `test/${folder}/**`),
        // One more than cores on a small machine: these files wait for servers half of their time.
        maxWorkers: 3,
      }),
      // Tests that start processes of ours, or servers of their own to end them.
      project('processes', 1, 'test/processes/**/*.test.ts'),
      project('conformance', 2, 'test/conformance/**/*.test.ts'),
      project('property', 3, 'test/property/**/*.test.ts'),
      project('faults', 4, 'test/faults/**/*.test.ts'),
    ],
  },
});
