import type { Source } from '../catalog/source.js';
import type { Space, VectorType } from '../catalog/space.js';
import type { Executor } from '../db/database.js';
import { ident, qualified } from '../db/identifiers.js';
import { listVectorIndexes } from '../store/build-index.js';
import { operatorClassOf } from '../store/vector-indexes.js';
import { didYouMean } from './errors.js';
import type { Table, TableColumn } from './table.js';

/** Taking over a column of vectors that was there before: what it must be, and what a person should know. */

function adoptedColumn(table: Table, name: string): TableColumn | undefined {
  return table.columns.find((column) => column.name === name);
}

function bare(type: string): string {
  return type.slice(type.lastIndexOf('.') + 1);
}

/** The type of a column of vectors; undefined where it holds none. */
export function vectorTypeOf(table: Table, name: string): VectorType | undefined {
  const type = bare(adoptedColumn(table, name)?.baseType ?? '');
  return type === 'vector' || type === 'halfvec' ? type : undefined;
}

/** True where a row holds a vector that is to be taken over: freshvec's own, of an earlier source, is told by its hash. */
export function adoptedSql(table: Table, space: Space): string {
  const name = (suffix: string) => `${ident(table.table)}.${ident(`${space.column}${suffix}`)}`;
  const companions = ['_model', '_hash'].filter((suffix) => adoptedColumn(table, `${space.column}${suffix}`));
  return [`${name('')} IS NOT NULL`, ...companions.map((suffix) => `${name(suffix)} IS NULL`)].join(' AND ');
}

/** Why the column cannot be taken over. */
export async function adoptionRefusals(db: Executor, table: Table, space: Space): Promise<string[]> {
  if (space.store !== 'column') {
    return [
      "only a column of the table can be adopted, and `--store table` keeps the vectors in freshvec's own table: leave `--store` or `--adopt` away.",
    ];
  }
  const column = adoptedColumn(table, space.column);
  if (!column) {
    const names = table.columns.filter(({ name }) => vectorTypeOf(table, name)).map(({ name }) => name);
    return [
      `it has no column "${space.column}" to adopt.${didYouMean(space.column, names)} Name it with \`--column NAME\`.`,
    ];
  }
  const about = `its column "${space.column}"`;
  if (column.generated !== 'no') return [`${about} is generated: nobody else can write it.`];
  const at = `ALTER TABLE ${qualified(table.schema, table.table)} ALTER COLUMN ${ident(space.column)}`;
  const type = bare(column.type);
  return [
    ...(column.notNull ? [`${about} is NOT NULL, and rows without text have no vector: ${at} DROP NOT NULL.`] : []),
    ...(type === `${space.type}(${space.dimensions})`
      ? []
      : type === space.type
        ? await withoutDimensions(db, table, space, at)
        : [
            `${about} is ${type}, and vectors of ${space.spec} are ${space.type}(${space.dimensions}): name the model that made them, or add the source without \`--adopt\` and with \`--column NAME\`.`,
          ]),
  ];
}

/** A column of vectors of any length: all of them must have the model's, and pgvector indexes none of these. */
async function withoutDimensions(db: Executor, table: Table, space: Space, at: string): Promise<string[]> {
  const column = ident(space.column);
  const found = await db.query<{ dimensions: number; rows: number }>(
    `SELECT vector_dims(${column}) AS dimensions, count(*) AS rows FROM ${qualified(table.schema, table.table)}
     WHERE ${column} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC`,
  );
  const others = found.filter(({ dimensions }) => dimensions !== space.dimensions);
  const mend = `${at} TYPE ${space.type}(${space.dimensions}) (PostgreSQL reads the whole table under a lock)`;
  if (others.length > 0) {
    const what = others.map(({ dimensions, rows }) => `${rows} of ${dimensions}`).join(', ');
    return [
      `its column "${space.column}" holds vectors of other dimensions than the ${space.dimensions} of ${space.spec}: ${what}. ` +
        `UPDATE ${qualified(table.schema, table.table)} SET ${column} = NULL WHERE vector_dims(${column}) <> ${space.dimensions}, then ${mend}.`,
    ];
  }
  if (space.index.kind === 'none') return [];
  return [
    `its column "${space.column}" is ${space.type} without dimensions, which pgvector cannot index: ${mend}, or use \`--index none\`.`,
  ];
}

/** What becomes of the vectors, and of the indexes that are there. */
export async function adoptionNotes(
  db: Executor,
  source: Source,
  space: Space,
  { removes }: { readonly removes: number },
): Promise<string[]> {
  if (space.adoption === undefined) return [];
  const { serving, others } = await listVectorIndexes(db, source, space);
  const wanted = operatorClassOf(space);
  const indexNotes =
    space.index.kind === 'none'
      ? []
      : serving.length > 0
        ? [`The index ${serving[0]?.name} serves as it is: no second one is built.`]
        : others.map(
            ({ name, method, operatorClass }) =>
              `The index ${name} (${method}, ${operatorClass}) does not serve: a second index is built, hnsw with ${wanted}. Drop ${name} once nothing else uses it.`,
          );
  return [
    `The vectors in ${space.column} are taken as made by ${space.spec} from the text that each row has now. Stop writing them yourself: ` +
      'freshvec does from here on, and a vector that somebody else writes goes unnoticed. A search finds a row once its vector is taken over.',
    ...(removes > 0 ? [`${removes} vectors are set to NULL: their rows do not pass the filter, or have no text.`] : []),
    ...indexNotes,
  ];
}
