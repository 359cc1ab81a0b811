import { TEXT_TOO_LONG } from '../catalog/long-texts.js';
import type { Source } from '../catalog/source.js';
import type { Space } from '../catalog/space.js';
import { LANES } from '../claim/lease.js';
import { NO_LOCK, type PlannedStatement } from './definition.js';

/**
 * What another choice for long texts makes work of: texts that were refused as too long, discarded failures among them,
 * and vectors that were made in another way. The latter are stale from the moment of the choice, whether a change tells
 * of them or not; the changes only have them seen to at once.
 */
export function retryLongTexts(source: Source, spaces: readonly Space[]): PlannedStatement[] {
  const ids = spaces.map(({ id }) => id).join(', ');
  if (ids === '') return [];
  return [
    {
      sql: `WITH back AS (
  DELETE FROM freshvec.failure WHERE space_id IN (${ids}) AND code = '${TEXT_TOO_LONG}' RETURNING space_id, key, tenant
)
INSERT INTO freshvec.change (space_id, lane, key, tenant) SELECT space_id, ${LANES.bulk}, key, tenant FROM back`,
      lock: NO_LOCK,
      why: 'has texts that were too long tried again',
    },
    {
      sql: `INSERT INTO freshvec.change (space_id, lane, key)
SELECT space_id, ${LANES.bulk}, key FROM freshvec.long_text WHERE space_id IN (${ids}) AND how <> '${source.longTexts}'`,
      lock: NO_LOCK,
      why: 'has vectors of long texts made in the new way',
    },
  ];
}
