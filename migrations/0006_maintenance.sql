-- freshvec: safe
-- What upkeep did, what it knows of the indexes it built, and what a person told it to leave alone.

CREATE TABLE maintenance_run (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  service text NOT NULL,
  by_person boolean NOT NULL,
  source text,
  relation text,
  index_name text,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz,
  outcome text NOT NULL DEFAULT 'running' CHECK (outcome IN ('running', 'done', 'busy', 'failed', 'interrupted')),
  did text NOT NULL,
  bytes_before bigint,
  bytes_after bigint,
  recall_before real,
  recall_after real,
  error text,
  times int NOT NULL DEFAULT 1,
  CHECK ((ended_at IS NULL) = (outcome = 'running'))
);
CREATE INDEX maintenance_run_service ON maintenance_run (service, id);
COMMENT ON TABLE maintenance_run IS 'The log of upkeep: the newest 200 runs of each service that did something, or failed.';
COMMENT ON COLUMN maintenance_run.outcome IS 'busy: somebody else held the table, nothing was done. interrupted: its process ended before it.';
COMMENT ON COLUMN maintenance_run.times IS 'Runs in a row that came to the same are one line.';

CREATE TABLE maintenance_service (
  service text PRIMARY KEY,
  started_at timestamptz NOT NULL,
  ended_at timestamptz,
  outcome text NOT NULL
);
COMMENT ON TABLE maintenance_service IS 'The last run of each service, whether or not there was something to do.';

CREATE TABLE maintenance_pause (
  service text PRIMARY KEY,
  reason text NOT NULL,
  by_whom text NOT NULL,
  at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE maintenance_pause IS 'Services that a person told to rest; * stands for all of them.';

CREATE TABLE index_build (
  space_id int NOT NULL REFERENCES space ON DELETE CASCADE,
  relation_oid oid NOT NULL,
  built_at timestamptz NOT NULL DEFAULT now(),
  vectors bigint NOT NULL,
  bytes bigint NOT NULL,
  writes bigint NOT NULL,
  recall real,
  looked_at timestamptz,
  looked_writes bigint,
  PRIMARY KEY (space_id, relation_oid)
);
COMMENT ON TABLE index_build IS 'What an index measured when freshvec had just built it: what it is compared with later.';
COMMENT ON COLUMN index_build.vectors IS 'That the build put into it; 0: not known, it was built by somebody else.';
COMMENT ON COLUMN index_build.writes IS 'Rows written to its table up to then, as the statistics count them.';
COMMENT ON COLUMN index_build.recall IS 'Soon after the build: a rebuild does not bring more.';
COMMENT ON COLUMN index_build.looked_at IS 'When recall was last measured.';
