-- freshvec: safe
-- freshvec's own tables. Runs in one transaction with search_path = freshvec, <schema of pgvector>, pg_catalog.

CREATE TABLE setting (
  name text PRIMARY KEY,
  value text NOT NULL
);
COMMENT ON TABLE setting IS 'Facts that every process must agree on, such as the queue backend.';
-- Tells the jobs of this database from those of others on the same Redis.
INSERT INTO setting (name, value) VALUES ('installation', gen_random_uuid()::text);

CREATE TABLE source (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE,
  relation_oid oid NOT NULL,
  schema_name text NOT NULL,
  table_name text NOT NULL,
  key_columns text[] NOT NULL,
  key_types text[] NOT NULL,
  content_columns text[],
  content_sql text,
  base_columns text[] NOT NULL,
  filter_sql text,
  tenant_column text,
  flag_column text,
  long_texts text NOT NULL DEFAULT 'refuse' CHECK (long_texts IN ('refuse', 'truncate', 'chunk')),
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK ((content_columns IS NULL) <> (content_sql IS NULL)),
  CHECK (cardinality(key_columns) = cardinality(key_types) AND cardinality(key_columns) > 0)
);
COMMENT ON TABLE source IS 'A table whose text is embedded.';
COMMENT ON COLUMN source.flag_column IS 'Boolean column that says: stale in the live space. It outlives the space that it was made with.';
COMMENT ON COLUMN source.base_columns IS 'Columns that content and filter read; a change of any of them makes the row stale.';
COMMENT ON COLUMN source.long_texts IS 'What becomes of a text that is longer than the model takes: a failure, a vector of its beginning, or of its pieces.';

CREATE TABLE space (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source_id int NOT NULL REFERENCES source ON DELETE CASCADE,
  spec text NOT NULL,
  fingerprint text NOT NULL,
  dimensions int NOT NULL,
  state text NOT NULL CHECK (state IN ('building', 'ready', 'live', 'retained', 'dropped')),
  store text NOT NULL CHECK (store IN ('column', 'table')),
  column_name text NOT NULL,
  vector_type text NOT NULL CHECK (vector_type IN ('vector', 'halfvec')),
  metric text NOT NULL CHECK (metric IN ('cosine', 'l2', 'ip')),
  index_kind text NOT NULL CHECK (index_kind IN ('hnsw', 'none')),
  m int NOT NULL,
  ef_construction int NOT NULL,
  adoption text CHECK (adoption IN ('open', 'done')),
  since xid8 NOT NULL DEFAULT pg_current_xact_id(),
  created_at timestamptz NOT NULL DEFAULT now(),
  CHECK (adoption IS NULL OR store = 'column')
);
CREATE INDEX space_source ON space (source_id);
COMMENT ON TABLE space IS 'The vectors of one source under one model fingerprint.';
COMMENT ON COLUMN space.adoption IS 'The column was there before, with vectors: open while they are taken over, then done. NULL where freshvec made it.';
COMMENT ON COLUMN space.since IS 'The transaction from which on capture enqueues for the space.';

CREATE TABLE pointer (
  source_id int PRIMARY KEY REFERENCES source ON DELETE CASCADE,
  epoch bigint NOT NULL DEFAULT 1,
  space_id int NOT NULL REFERENCES space
);
COMMENT ON TABLE pointer IS 'Which space answers searches; the epoch grows at each switch.';

CREATE TABLE change (
  id bigint GENERATED ALWAYS AS IDENTITY,
  space_id int NOT NULL,
  lane smallint NOT NULL DEFAULT 0,
  key text COLLATE "C" NOT NULL,
  tenant text,
  force boolean,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (space_id, lane, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off,
        autovacuum_vacuum_insert_scale_factor = 0.2);
COMMENT ON TABLE change IS 'Append-only: this key, in this space, may be stale. Lane 0 is interactive, 1 is bulk.';

-- Ids are those of change, so that one line, and one hint of where it begins, holds both.
CREATE TABLE change_pack (
  id bigint NOT NULL DEFAULT nextval('change_id_seq'),
  space_id int NOT NULL,
  keys text[] COLLATE "C" NOT NULL,
  tenants text[],
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (space_id, id)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off,
        autovacuum_vacuum_insert_scale_factor = 0.2, toast_tuple_target = 8160);
-- Not compressed, and on the row's own page as long as it fits: the app pays for the writing.
ALTER TABLE change_pack ALTER keys SET STORAGE EXTERNAL, ALTER tenants SET STORAGE EXTERNAL;
COMMENT ON TABLE change_pack IS 'Changes of a large statement, in lane 1, many keys a row: this costs the app a fraction of a row each.';
COMMENT ON COLUMN change_pack.tenants IS 'Of each key; NULL where the source has no tenants.';

CREATE VIEW change_key AS
  SELECT c.space_id, c.lane, c.id, c.key, c.tenant, c.force, c.at FROM change c
  UNION ALL
  SELECT p.space_id, 1::smallint, p.id, k.key, p.tenants[k.place], NULL::boolean, p.at
  FROM change_pack p CROSS JOIN LATERAL unnest(p.keys) WITH ORDINALITY AS k(key, place);
COMMENT ON VIEW change_key IS 'Every change, a row for each key: change and change_pack.';

CREATE TABLE lease (
  space_id int NOT NULL,
  key text COLLATE "C" NOT NULL,
  token uuid,
  worker text,
  expires_at timestamptz NOT NULL,
  again boolean NOT NULL DEFAULT false,
  force boolean NOT NULL DEFAULT false,
  again_force boolean NOT NULL DEFAULT false,
  lane smallint NOT NULL DEFAULT 0,
  attempts smallint NOT NULL DEFAULT 0,
  losses smallint NOT NULL DEFAULT 0,
  tenant text,
  since timestamptz NOT NULL,
  PRIMARY KEY (space_id, key)
) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000, vacuum_truncate = off);
-- Two, so that looking for keys that wait does not read the dead rows of those that were held.
CREATE INDEX lease_waiting ON lease (space_id, expires_at) WHERE token IS NULL;
CREATE INDEX lease_held ON lease (space_id, expires_at) WHERE token IS NOT NULL;
COMMENT ON TABLE lease IS 'A key that one worker holds (token) until expires_at; without a token, a key that waits until then.';
COMMENT ON COLUMN lease.again IS 'Edited while it was held: goes back into change when the lease ends.';
COMMENT ON COLUMN lease.losses IS 'Writes lost in a row because the text changed meanwhile; doubles the wait.';

CREATE TABLE failure (
  space_id int NOT NULL REFERENCES space ON DELETE CASCADE,
  key text COLLATE "C" NOT NULL,
  code text NOT NULL,
  message text NOT NULL,
  attempts int NOT NULL,
  hash uuid,
  tenant text,
  discarded boolean NOT NULL DEFAULT false,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (space_id, key)
);
COMMENT ON TABLE failure IS 'Keys whose text cannot be embedded, and why. hash: of the text that failed. discarded: a person has seen it.';

CREATE TABLE long_text (
  space_id int NOT NULL REFERENCES space ON DELETE CASCADE,
  key text COLLATE "C" NOT NULL,
  how text NOT NULL CHECK (how IN ('truncate', 'chunk')),
  tokens bigint NOT NULL,
  max_tokens int NOT NULL,
  pieces int NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (space_id, key)
);
COMMENT ON TABLE long_text IS 'Vectors that were made of the beginning, or of the pieces, of a text that is longer than the model takes. Goes with the vector.';
COMMENT ON COLUMN long_text.tokens IS 'Of the whole text; about, unless the model''s tokeniser is at hand.';

CREATE TABLE range (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  space_id int NOT NULL REFERENCES space ON DELETE CASCADE,
  purpose text NOT NULL CHECK (purpose IN ('load', 'sweep', 'prune')),
  relation_oid oid NOT NULL,
  filenode oid NOT NULL,
  from_page bigint NOT NULL,
  to_page bigint NOT NULL
);
CREATE INDEX range_space ON range (space_id, id);
COMMENT ON TABLE range IS 'Pages [from_page, to_page) of a relation still to be visited; the row state decides what is done there.';

CREATE SEQUENCE ring_until;
COMMENT ON SEQUENCE ring_until IS 'Capture rings the doorbell until this second (Unix time): somebody sleeps. A sequence, since reading one costs the app no query.';

CREATE TABLE kept_space (
  space_id int PRIMARY KEY,
  source jsonb NOT NULL,
  space jsonb NOT NULL,
  removed_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE kept_space IS 'Tables of vectors that outlived their source (vector_<space_id>), and what they hold: a like source takes them up again.';

CREATE TABLE singleton (
  name text PRIMARY KEY,
  token uuid NOT NULL,
  expires_at timestamptz NOT NULL
);
COMMENT ON TABLE singleton IS 'Work that one process at a time may do, such as an index build; a row instead of an advisory lock passes a pooler.';

-- The hash of a text, computed on the server only. md5 where it is allowed, else sha256 cut to 16 bytes.
DO $$
BEGIN
  PERFORM md5('probe');
  EXECUTE $f$CREATE FUNCTION content_hash(content text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT pg_catalog.md5($1)::pg_catalog.uuid'$f$;
EXCEPTION WHEN OTHERS THEN
  EXECUTE $f$CREATE FUNCTION content_hash(content text) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS
    'SELECT pg_catalog.encode(pg_catalog.substr(pg_catalog.sha256(pg_catalog.convert_to($1, ''UTF8'')), 1, 16), ''hex'')::pg_catalog.uuid'$f$;
END
$$;
