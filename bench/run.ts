import { loadavg } from 'node:os';
import { figureTable, keepsBound } from './support/figures.js';
import { type Bench, Lab } from './support/lab.js';

/** `npm run bench -- NAME`: measures, prints, and exits 1 when a figure misses its bound. */

interface Entry {
  readonly what: string;
  readonly load: () => Promise<Bench>;
}

const BENCHES: Readonly<Record<string, Entry>> = {
  ingest: {
    what: 'rows to vectors, against binary COPY and against text batches',
    load: async () => (await import('./ingest.js')).ingest,
  },
  capture: {
    what: "what the triggers cost the app's writes",
    load: async () => (await import('./capture.js')).capture,
  },
  freshness: {
    what: 'from commit to searchable, on an idle system',
    load: async () => (await import('./freshness.js')).freshness,
  },
  claim: {
    what: 'a claim in small and large tables, and among dead rows',
    load: async () => (await import('./claim.js')).claim,
  },
  'app-wait': {
    what: 'what an app waits for while the worker writes',
    load: async () => (await import('./app-wait.js')).appWait,
  },
  budget: {
    what: "takes from one account's shared limits",
    load: async () => (await import('./budget.js')).budget,
  },
  ratelimit: {
    what: "how much of a provider's limit four workers use, and how often they are refused",
    load: async () => (await import('./ratelimit.js')).ratelimit,
  },
  reembed: {
    what: 'a move to another model beside an app that writes and searches, and back',
    load: async () => (await import('./reembed.js')).reembed,
  },
  search: {
    what: 'the guarded search against a bare ORDER BY … LIMIT',
    load: async () => (await import('./search.js')).search,
  },
  upkeep: {
    what: 'a bloated index is found, and rebuilt while the app searches',
    load: async () => (await import('./upkeep.js')).upkeep,
  },
  local: {
    what: 'models that run in the process, against a bare loop over the runtime',
    load: async () => (await import('./local.js')).local,
  },
};

async function run(name: string, entry: Entry): Promise<boolean> {
  const lab = new Lab();
  try {
    const bench = await entry.load();
    const before = loadavg()[0] ?? 0;
    const figures = await bench(lab);
    console.log(`\n${name}: ${entry.what}\n`);
    for (const line of lab.setup) console.log(`  ${line}`);
    console.log(`  load average before: ${before.toFixed(1)}\n`);
    console.log(figureTable(figures).replaceAll(/^/gm, '  '));
    return figures.every(keepsBound);
  } finally {
    await lab.close();
  }
}

const [name] = process.argv.slice(2);
const entry = name === undefined ? undefined : Object.entries(BENCHES).find(([key]) => key === name)?.[1];
if (name === undefined || entry === undefined) {
  if (name !== undefined) console.error(`There is no bench "${name}".`);
  console.log('npm run bench -- NAME, where NAME is one of:');
  for (const [key, { what }] of Object.entries(BENCHES)) console.log(`  ${key.padEnd(10)} ${what}`);
  process.exitCode = name === undefined ? 0 : 2;
} else if (!(await run(name, entry))) process.exitCode = 1;
