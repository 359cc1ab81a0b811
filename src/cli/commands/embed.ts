import type { Register } from '../register.js';

export const embedCommand: Register = (program, act) => {
  program
    .command('embed')
    .argument('<text>')
    .description('the vector of one text')
    .requiredOption('--model <spec>', 'provider/name@dimensions, for example static/mini@256')
    .addHelpText('after', '\nExample:\n  $ freshvec embed "hello" --model openai/text-embedding-3-small@1536 --json')
    .action(
      act(async (cli, text: string, { model: spec }: { model: string }) => {
        const { model, dimensions, vector, tokens } = await cli.client.embed(spec, text);
        const numbers = Array.from(vector);
        cli.answer({ model, dimensions, tokens, vector: numbers }, () => `[${numbers.join(',')}]`);
      }),
    );
};
