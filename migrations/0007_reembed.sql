-- freshvec: safe
-- Moves of a source from one space to another, and who still reads the old one.

CREATE TABLE migration (
  id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source_id int NOT NULL REFERENCES source ON DELETE CASCADE,
  from_space int NOT NULL,
  to_space int NOT NULL UNIQUE,
  target jsonb NOT NULL,
  state text NOT NULL CHECK (state IN ('planned', 'expanding', 'backfilling', 'indexing', 'verifying', 'ready', 'soaking',
    'rolled_back', 'contracting', 'done', 'aborted', 'parked')),
  token uuid,
  parked_state text,
  reason text,
  paused boolean NOT NULL DEFAULT false,
  renamed boolean NOT NULL DEFAULT false,
  auto boolean NOT NULL DEFAULT false,
  until float8 CHECK (until > 0 AND until <= 1),
  retain interval,
  drop_space int,
  accepted text[] NOT NULL DEFAULT '{}',
  queries jsonb,
  rows bigint NOT NULL DEFAULT 0,
  share float8 NOT NULL DEFAULT 0.25 CHECK (share >= 0 AND share <= 1),
  throttle jsonb NOT NULL DEFAULT '[]',
  throttled_at timestamptz,
  worked float8 NOT NULL DEFAULT 0,
  filled_before float8 NOT NULL DEFAULT 0,
  gates jsonb NOT NULL DEFAULT '[]',
  gated_at timestamptz,
  tries int NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  switched_at timestamptz,
  ended_at timestamptz,
  CHECK ((state = 'parked') = (parked_state IS NOT NULL)),
  CHECK (state <> 'contracting' OR drop_space IS NOT NULL)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX migration_open ON migration (source_id) WHERE state NOT IN ('done', 'aborted');
COMMENT ON TABLE migration IS 'A source on its way from one space to another. Every change of state compares state and token.';
COMMENT ON COLUMN migration.target IS 'The new space as planned: it has a row in space from the end of expanding on.';
COMMENT ON COLUMN migration.token IS 'Of the controller that works on it; a person''s command takes it away.';
COMMENT ON COLUMN migration.reason IS 'Why it is parked, or what it waits for.';
COMMENT ON COLUMN migration.renamed IS 'The two spaces have exchanged their columns'' names; a rollback changes them back.';
COMMENT ON COLUMN migration.until IS 'Share of the rows after which the backfill rests until somebody resumes it.';
COMMENT ON COLUMN migration.retain IS 'How long after the switch the old space is kept; then it is dropped. Without it only `complete` drops it.';
COMMENT ON COLUMN migration.drop_space IS 'The space that contracting takes away: the old one after complete, the new one after abort.';
COMMENT ON COLUMN migration.accepted IS 'Gates that a person said may be passed although they did not hold.';
COMMENT ON COLUMN migration.share IS 'Part of the time that the backfill works: 1 is unthrottled. Good for a few seconds after throttled_at.';
COMMENT ON COLUMN migration.worked IS 'Seconds that this backfill was at work: not paused, not parked, and with a controller.';
COMMENT ON COLUMN migration.filled_before IS 'Share of the rows that were there when this backfill began: it may be for a new partition only.';
COMMENT ON COLUMN migration.tries IS 'Index builds, or rounds of gates, that failed in a row; 0 after a person''s command.';

CREATE TABLE migration_event (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  migration_id int NOT NULL REFERENCES migration ON DELETE CASCADE,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  state text NOT NULL,
  what text NOT NULL
);
CREATE INDEX migration_event_migration ON migration_event (migration_id, id);
COMMENT ON TABLE migration_event IS 'What happened to a migration, and when.';

CREATE TABLE reader (
  id uuid NOT NULL,
  source_id int NOT NULL REFERENCES source ON DELETE CASCADE,
  epoch bigint NOT NULL,
  name text NOT NULL,
  role name NOT NULL,
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (id, source_id)
) WITH (fillfactor = 50);
CREATE INDEX reader_source ON reader (source_id, role);
COMMENT ON TABLE reader IS 'Processes that search, and the epoch that they last knew: an old space is not dropped under them.';
COMMENT ON COLUMN reader.name IS 'What the process says of itself; the role is what the server knows.';

-- Says that a process searches with this epoch, for 90 s; returns the present epoch, NULL where nothing is live. Whoever
-- may search may say so, so what a liar can do is bounded: no epoch from the future, no control characters for a
-- person's terminal, rows of its own role only, and 1,000 of them a source. It can hold up `complete`, under its own
-- role's name, for as long as it goes on; no search and no data depend on these rows.
CREATE FUNCTION announce_reader(id uuid, source_id int, epoch bigint, name text) RETURNS bigint
  LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
AS $$
DECLARE
  present bigint;
BEGIN
  SELECT p.epoch INTO present FROM freshvec.pointer p WHERE p.source_id = announce_reader.source_id;
  IF present IS NULL THEN
    RETURN NULL;
  END IF;
  DELETE FROM freshvec.reader r WHERE r.ctid = ANY (ARRAY(
    SELECT o.ctid FROM freshvec.reader o
    WHERE o.source_id = announce_reader.source_id AND o.expires_at < clock_timestamp() AND o.id <> announce_reader.id
    LIMIT 100 FOR UPDATE SKIP LOCKED));
  INSERT INTO freshvec.reader AS r (id, source_id, epoch, name, role, expires_at)
  SELECT announce_reader.id, announce_reader.source_id, least(announce_reader.epoch, present),
    left(regexp_replace(COALESCE(announce_reader.name, ''), '[[:cntrl:]]', '', 'g'), 200), session_user,
    clock_timestamp() + interval '90 s'
  WHERE (SELECT count(*) FROM freshvec.reader o
         WHERE o.source_id = announce_reader.source_id AND o.role = session_user AND o.id <> announce_reader.id) < 1000
  ON CONFLICT ON CONSTRAINT reader_pkey DO UPDATE
    -- Two words of one process may overtake one another: epochs only grow.
    SET epoch = greatest(r.epoch, excluded.epoch), name = excluded.name, expires_at = excluded.expires_at
    WHERE r.role = excluded.role;
  RETURN present;
END
$$;
COMMENT ON FUNCTION announce_reader IS 'Says that a process searches a source with an epoch; renewed every 30 s. The present epoch.';

-- A process that ends takes its word back; only what the same role said.
CREATE FUNCTION forget_reader(id uuid) RETURNS void
  LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
AS $$
  DELETE FROM freshvec.reader r WHERE r.id = forget_reader.id AND r.role = session_user
$$;
COMMENT ON FUNCTION forget_reader IS 'Takes back what announce_reader was told under this id.';
