// A process of its own that runs a TypeScript module of ours: argv[2], with the rest as its arguments.
import { runnerImport } from 'vite';

const [, , module, ...args] = process.argv;
process.argv = [process.argv[0], module, ...args];
await runnerImport(new URL(`../../${module}`, import.meta.url).pathname, { configFile: false, logLevel: 'error' });
