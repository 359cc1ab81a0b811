import type { Findings, PlanContext } from './context.js';

/** Rows that will have no vector of the new model, and whether the gate `failures` lets so many pass. */
export function measureFailures({ source, rows, fails, longRows, settings }: PlanContext): Findings {
  const refused = source.longTexts === 'refuse' ? longRows : 0;
  const failed = refused + fails;
  const share = failed / Math.max(rows, failed, 1);
  const { failedShare = 1 } = settings;
  const mend = refused > 0 ? `\`freshvec source alter ${source.name} --long-texts chunk\` embeds long texts, ` : '';
  return {
    notes: [
      ...(fails > 0
        ? [`Content or filter fails on about ${fails} rows: they get a failure row (content_error), no vector.`]
        : []),
      ...(share > failedShare
        ? [
            `About ${failed} of ${rows} rows will fail (${percent(share)}), ${refused} of them for too long a text, and the gate \`failures\` lets ${percent(failedShare)} pass (reembed.gates.failedShare): ` +
              `${mend}\`freshvec failures discard\` settles failures, and \`reembed accept ${source.name} failures\` lets them be.`,
          ]
        : []),
    ],
  };
}

function percent(share: number): string {
  return `${Number((100 * share).toPrecision(2))} %`;
}
