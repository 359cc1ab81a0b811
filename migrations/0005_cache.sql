-- freshvec: safe
-- What was paid for already, and how the models answered when they were first asked.

-- Not logged: no WAL, nothing of it on replicas or in archived backups, where a person's text could not be erased; lost
-- only when the server crashes or fails over, and then paid for again only where a text comes back.
CREATE UNLOGGED TABLE embedding_cache (
  hash uuid NOT NULL,
  fingerprint text COLLATE "C" NOT NULL,
  vector bytea NOT NULL,
  bytes int GENERATED ALWAYS AS (octet_length(vector) + octet_length(vector) / 4 + 2 * octet_length(fingerprint) + 200) STORED,
  at timestamptz NOT NULL DEFAULT now(),
  -- The hash first: a text is forgotten under every model at once.
  PRIMARY KEY (hash, fingerprint)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
-- Floats do not compress.
ALTER TABLE embedding_cache ALTER COLUMN vector SET STORAGE EXTERNAL;
CREATE INDEX embedding_cache_age ON embedding_cache (at) INCLUDE (bytes);
COMMENT ON TABLE embedding_cache IS 'Vectors of texts by content_hash and model, as documents, so that a text that comes back costs nothing.';
COMMENT ON COLUMN embedding_cache.vector IS 'float32 little-endian, 4 bytes a dimension.';
COMMENT ON COLUMN embedding_cache.bytes IS 'About what the row takes on disk: pages that its pieces do not fill and its index entries included.';
COMMENT ON COLUMN embedding_cache.at IS 'When it was first written; the oldest go first, however often they were read.';

CREATE TABLE probe (
  fingerprint text COLLATE "C" PRIMARY KEY,
  texts text[] NOT NULL,
  vectors bytea[] NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  checked_at timestamptz NOT NULL DEFAULT now(),
  changed_at timestamptz,
  reason text,
  CHECK (cardinality(texts) = cardinality(vectors) AND cardinality(texts) > 0),
  CHECK ((changed_at IS NULL) = (reason IS NULL))
);
COMMENT ON TABLE probe IS 'Fixed texts and the vectors that a model first gave them: whether it is still the same model.';
COMMENT ON COLUMN probe.texts IS 'Kept here, so that every version of freshvec asks for the texts that the vectors are of.';
COMMENT ON COLUMN probe.changed_at IS 'When other vectors came back: nothing is written with this model until a person decides.';
