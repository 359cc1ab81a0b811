import { type Command, InvalidArgumentError, Option } from 'commander';
import type { ReembedDefinition } from '../../../reembed/definition.js';
import { whole } from '../../flags.js';

/** What the new space shall be; shared by `plan` and `start`. */
export interface SpaceFlags extends ReembedDefinition {
  readonly json?: boolean;
}

export function addSpaceFlags(command: Command): Command {
  return command
    .option('--model <spec>', 'provider/name@dimensions; the present one where only type, metric or store change')
    .option('--column <name>', 'column of the new vectors (embedding_2, …)')
    .option('--adopt <column>', 'take over a column that holds vectors of the model already, and embed the rest')
    .addOption(new Option('--store <store>', 'where the new vectors are').choices(['column', 'table']))
    .addOption(new Option('--type <type>', 'of the new vectors').choices(['vector', 'halfvec']))
    .addOption(new Option('--metric <metric>', 'distance').choices(['cosine', 'l2', 'ip']))
    .addOption(new Option('--index <kind>', 'index of the new vectors').choices(['hnsw', 'none']))
    .option('--m <n>', 'HNSW: links of a node', whole(2))
    .option('--ef-construction <n>', 'HNSW: candidates while building', whole(4));
}

export function definitionOf({
  model,
  column,
  adopt,
  store,
  type,
  metric,
  index,
  m,
  efConstruction,
}: SpaceFlags): ReembedDefinition {
  return { model, column, adopt, store, type, metric, index, m, efConstruction };
}

/** `10%` or `0.1` → 0.1 */
export function share(text: string): number {
  const [, digits, percent] = /^(\d+(?:\.\d+)?)(%?)$/.exec(text.trim()) ?? [];
  const value = Number(digits) / (percent ? 100 : 1);
  if (!(value > 0 && value <= 1)) throw new InvalidArgumentError('A share is needed, such as 10% or 0.1.');
  return value;
}

export function dollars(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !(value > 0)) throw new InvalidArgumentError('Dollars are needed, such as 25.');
  return value;
}
