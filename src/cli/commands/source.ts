import type { SourceInfo } from '../../client/sources.js';
import type { Register } from '../register.js';
import { table } from '../table.js';
import { addCommand } from './source-add.js';
import { alterCommand } from './source-alter.js';
import { longTextsCommand } from './source-long-texts.js';
import { removeCommand } from './source-remove.js';

export const sourceCommands: Register = (program, act) => {
  const source = program
    .command('source')
    .description('tables whose text is embedded')
    .addHelpText('after', '\nExample:\n  $ freshvec source add notes --content title,body --model static/mini@256');
  addCommand(source, act);

  source
    .command('list')
    .description('all of them')
    .addHelpText('after', '\nExample:\n  $ freshvec source list --json')
    .action(
      act(async (cli) => {
        const sources = await cli.client.sources.list();
        cli.answer({ sources }, () => {
          if (sources.length === 0) return 'There are no sources.';
          const rows = sources.map((s) => [
            s.name,
            `${s.schema}.${s.table}`,
            contentOf(s),
            liveOf(s)?.spec ?? '-',
            liveOf(s)?.store ?? '-',
          ]);
          return table(['source', 'table', 'content', 'model', 'store'], rows);
        });
      }),
    );

  source
    .command('show')
    .argument('<name>')
    .description('one of them, with its spaces')
    .addHelpText('after', '\nExample:\n  $ freshvec source show notes')
    .action(
      act(async (cli, name: string) => {
        const info = await cli.client.sources.show(name);
        cli.answer({ source: info }, () => describe(info));
      }),
    );

  longTextsCommand(source, act);
  alterCommand(source, act);
  removeCommand(source, act);
};

function liveOf(info: SourceInfo): SourceInfo['spaces'][number] | undefined {
  return info.spaces.find(({ id }) => id === info.live?.space);
}

function contentOf({ content }: SourceInfo): string {
  return 'sql' in content ? content.sql : content.columns.join(', ');
}

function describe(info: SourceInfo): string {
  const facts = [
    ['source', info.name],
    ['table', `${info.schema}.${info.table}`],
    ['key', info.key.map(({ name, type }) => `${name} ${type}`).join(', ')],
    ['content', contentOf(info)],
    ['where', info.where ?? '-'],
    ['tenant', info.tenant ?? '-'],
    ['long texts', info.longTexts],
    ...info.spaces.map((s) => [
      `space ${s.id}`,
      `${s.state}: ${s.fingerprint}, ${s.type}, ${s.metric}, store ${s.store}, index ${s.index.kind}`,
    ]),
  ];
  return facts.map(([name = '', value = '']) => `${name.padEnd(10)} ${value}`).join('\n');
}
