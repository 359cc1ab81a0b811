/**
 * Searches `doc (id, body)` for texts of its own rows, in a process of its own from dist, until stdin ends. The vectors
 * of a text are the same in row and query, and those of two models have nothing to do with each other: a hit that is not
 * the row itself, at no distance, was compared across models. Says on stdout, in lines of JSON, what it saw.
 */
import { writeSync } from 'node:fs';
import { openDatabase } from '../../../dist/src/db/open.js';
import { createPointerCache, search } from '../../../dist/src/search/index.js';
import { createModels } from '../../../dist/src/worker/models.js';

const url = process.argv[2];
const db = await openDatabase({ kind: 'postgres', url, poolSize: 1, applicationName: 'searcher', onError: () => {} });
const models = createModels({ requestTimeoutMs: 5_000 });
const embedQuery = async (spec, text) => {
  const model = await models.get(spec);
  const { vectors } = await model.embed([text], { purpose: 'query', signal: new AbortController().signal });
  return vectors[0];
};
const pointers = createPointerCache();
let asked = true;
process.stdin.on('end', () => {
  asked = false;
});
process.stdin.resume();

const say = (line) => writeSync(1, `${JSON.stringify(line)}\n`);
let told;
for (let i = 1; asked; i = (i % 50) + 1) {
  try {
    const { results, epoch } = await search({ db, embedQuery, pointers }, 'doc', { text: `text number ${i}`, k: 3 });
    const [first] = results;
    const of = new Set(results.map(({ model }) => model));
    if (first?.key !== i || !(Math.abs(first.distance) < 1e-3) || of.size !== 1) say({ wrong: results, epoch, of: i });
    if (epoch === told?.epoch && first?.model === told.model) continue;
    told = { epoch, model: first?.model };
    say(told);
  } catch (error) {
    say({ failed: String(error) });
  }
}
await db.close();
await models.close();
