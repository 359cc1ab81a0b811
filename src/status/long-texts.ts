import type { LongText } from '../catalog/long-texts.js';
import type { Executor } from '../db/database.js';

/** A row whose vector was made of a text that is longer than the model takes. */
export interface LongTextRecord extends LongText {
  readonly source: string;
  readonly key: string;
  readonly at: Date;
}

/** Those of the live spaces, of one source or of all. */
export async function listLongTexts(db: Executor, source?: string): Promise<LongTextRecord[]> {
  return db.query<LongTextRecord & Record<string, unknown>>(
    `SELECT s.name AS source, l.key, l.how, l.tokens, l.max_tokens AS "maxTokens", l.pieces, l.at
     FROM freshvec.long_text l JOIN freshvec.pointer p ON p.space_id = l.space_id
     JOIN freshvec.source s ON s.id = p.source_id
     WHERE $1::text IS NULL OR s.name = $1 ORDER BY s.name, l.at, l.key`,
    [source ?? null],
  );
}

/** How many vectors of a space were made of texts that were too long. */
export interface LongTextCount {
  readonly truncated: number;
  readonly chunked: number;
}

export async function countLongTexts(db: Executor, spaceId: number): Promise<LongTextCount> {
  const [row] = await db.query<{ truncated: number; chunked: number }>(
    `SELECT count(*) FILTER (WHERE how = 'truncate') AS truncated, count(*) FILTER (WHERE how = 'chunk') AS chunked
     FROM freshvec.long_text WHERE space_id = $1`,
    [spaceId],
  );
  return row ?? { truncated: 0, chunked: 0 };
}
