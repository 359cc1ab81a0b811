import { defineConfig, type TestProjectInlineConfiguration } from 'vitest/config';

/** Folders with a project of their own, or that another command runs; the rest of `test/` mirrors `src/`. */
const NOT_QUICK = ['processes', 'conformance', 'property', 'faults', 'slow', 'browser'].map(
  (folder) => `test/${folder}/**`,
);

/** Mirrors of `src/` whose tests play whole lives of a source: too long for every commit. */
const THOROUGH = [
  'test/reembed/**/*.test.ts',
  'test/maintenance/**/*.test.ts',
  'test/worker/**/*.test.ts',
  'test/client/{client,ai-models}.test.ts',
  'test/cli/{maintain,work,reembed-watch}.test.ts',
  'test/budget/{pause,spend-cap,long-wait}.test.ts',
  'test/source/{adopt,refusals,kept}.test.ts',
  'test/stages/{long-texts,parked,load,together,write-refused,restless}.test.ts',
  'test/embed/{cache,probe}.test.ts',
  'test/status/status.test.ts',
  'test/observe/**/*.test.ts',
  'test/claim/{bulk,range}.test.ts',
  'test/capture/{shapes,partitions,renamed}.test.ts',
  'test/queue/pglite.test.ts',
  'test/search/{switch,filtered,index-use,space,failing-row}.test.ts',
];

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
  include: string | string[],
  more: { exclude?: string[]; maxWorkers?: number } = {},
) {
  return {
    test: { ...common, name, include: [include].flat(), sequence: { groupOrder }, ...more },
  } satisfies TestProjectInlineConfiguration;
}

export default defineConfig({
  test: {
    globalSetup: ['test/support/globalSetup.ts'],
    maxWorkers: 2,
    projects: [
      project('quick', 0, 'test/**/*.test.ts', {
        exclude: [...NOT_QUICK, ...THOROUGH],
        // One more than cores on a small machine: these files wait for servers half of their time.
        maxWorkers: 3,
      }),
      project('thorough', 1, THOROUGH, { maxWorkers: 3 }),
      // Tests that start processes of ours, or servers of their own to end them.
      project('processes', 2, 'test/processes/**/*.test.ts'),
      project('conformance', 3, 'test/conformance/**/*.test.ts'),
      project('property', 4, 'test/property/**/*.test.ts'),
      project('faults', 5, 'test/faults/**/*.test.ts'),
    ],
  },
});
