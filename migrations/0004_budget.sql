-- freshvec: safe
-- What the fleet may ask of a provider, what it cost, and which sources rest.

CREATE TABLE account (
  account text PRIMARY KEY,
  requests_limit float8,
  tokens_limit float8,
  requests_at float8 NOT NULL DEFAULT 0,
  tokens_at float8 NOT NULL DEFAULT 0,
  requests_unmetered float8 NOT NULL DEFAULT 0,
  tokens_unmetered float8 NOT NULL DEFAULT 0,
  corrected_at float8 NOT NULL DEFAULT 0,
  share float8 NOT NULL DEFAULT 1,
  share_fell_at timestamptz NOT NULL DEFAULT '-infinity',
  share_rose_at timestamptz NOT NULL DEFAULT now(),
  failures int NOT NULL DEFAULT 0,
  resumes_at timestamptz,
  probe_until timestamptz,
  asked_at timestamptz,
  reason text
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE account IS 'One model under one key at one provider, and what all workers together have asked of it.';
COMMENT ON COLUMN account.requests_limit IS 'Requests a minute that the provider allows, by its own word.';
COMMENT ON COLUMN account.requests_at IS 'Theoretical arrival time of the next request (GCRA), Unix time in s.';
COMMENT ON COLUMN account.tokens_unmetered IS 'Taken while the limit was not known; counts as soon as it is.';
COMMENT ON COLUMN account.share IS 'Part of the limit that is used: falls when the provider refuses, since somebody else uses the key too.';
COMMENT ON COLUMN account.corrected_at IS 'When the provider last said that less was left than was thought, Unix time in s.';
COMMENT ON COLUMN account.share_rose_at IS 'It rises from here on: since an answer, or after a pause.';
COMMENT ON COLUMN account.asked_at IS 'When a person''s query last went ahead during an outage.';
COMMENT ON COLUMN account.failures IS 'Outages in a row; the next try after one is made by one worker alone.';

CREATE TABLE spend_day (
  day date PRIMARY KEY,
  nanos bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
COMMENT ON TABLE spend_day IS 'Billionths of a dollar that a day (UTC) has cost so far.';

CREATE TABLE space_spend (
  space_id int PRIMARY KEY,
  nanos bigint NOT NULL DEFAULT 0,
  cap_nanos bigint CHECK (cap_nanos >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE space_spend IS 'The same for the rows of one space since it was made: what a migration to it costs, and may cost.';

CREATE TABLE spend_reserved (
  period int NOT NULL,
  space_id int,
  nanos bigint NOT NULL,
  UNIQUE NULLS NOT DISTINCT (period, space_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE spend_reserved IS 'Upper bounds of requests under way, against which caps are held beside what was charged. Given back with the answer.';
COMMENT ON COLUMN spend_reserved.period IS 'The ten minutes since 1970 in which they were granted. What is left of one long over was a killed worker''s.';

CREATE TABLE spend (
  day date NOT NULL,
  source text,
  space_id int,
  fingerprint text NOT NULL,
  purpose text NOT NULL CHECK (purpose IN ('rows', 'query', 'probe', 'text')),
  texts bigint NOT NULL,
  tokens bigint NOT NULL,
  nanos bigint NOT NULL,
  UNIQUE NULLS NOT DISTINCT (day, source, space_id, fingerprint, purpose)
);
COMMENT ON TABLE spend IS 'What was embedded and charged; by the name of the source, which outlives the source.';
COMMENT ON COLUMN spend.source IS 'Null where a text was embedded for no source.';
COMMENT ON COLUMN spend.space_id IS 'Null for queries, which belong to no space''s cap.';

CREATE TABLE pause (
  source_id int NOT NULL REFERENCES source ON DELETE CASCADE,
  space_id int REFERENCES space ON DELETE CASCADE,
  kind text NOT NULL CHECK (kind IN ('person', 'spend', 'provider')),
  reason text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  until timestamptz,
  UNIQUE NULLS NOT DISTINCT (source_id, space_id, kind)
);
COMMENT ON TABLE pause IS 'What is not worked on, and why. Changes go on being noticed.';
COMMENT ON COLUMN pause.space_id IS 'Null: every space of the source.';

-- Seconds of the limit that so much takes; null while no limit is known. Over 61.5 s: see take_budget.
CREATE FUNCTION budget_seconds(amount float8, share float8, cap float8, named float8) RETURNS float8
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT amount * 61.5 / (share * LEAST(cap, named))';

CREATE FUNCTION day_of_period(period int) RETURNS date
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$SELECT (to_timestamp(period * 600.0) AT TIME ZONE 'UTC')::date$$;

-- Asks for one request of so many tokens. `wait_ms` is 0 where it is granted; else `why` says what it waits for:
-- 'budget'; 'cap' (the day's money) or 'space_cap', with '_held' behind where money that others have reserved may come
-- back; or the reason of a pause that the provider asked for. Says the limits as well, as far as they are known.
--
-- `*_cap`: what the asker's configuration allows in a minute, null for as much as the provider does. It is not kept: a
-- process that knows of none must not take that of the others away.
--
-- GCRA: an arrival time runs ahead of the clock by what each request takes of the limit, at most by `burst` seconds.
-- The limit is spread over 61.5 s rather than 60, so that in no window of 60 s, bursts and late arrivals included, more
-- than the limit is asked for. Of requests that each cost more than 1.05 s as many pass as fit into the limit whole. What
-- the burst leaves of a second keeps edits ahead of imports and these ahead of first loads in all processes, however
-- large their requests are (those of a first load cost 0.55 s at most, a long text more).
--
-- `urgent`: a person waits. It is charged and goes ahead, so that all others wait for what it takes, for as long as a
-- provider may count it; only during an outage one a second goes, and the others are told.
--
-- `at` (Unix time in s) and `*_spare` are for what the answer says is left: so much more could have been asked for at
-- once, in a burst of a second.
CREATE FUNCTION take_budget(
  account text, requests float8, tokens float8, requests_cap float8, tokens_cap float8, burst float8, urgent boolean,
  nanos bigint, cap bigint, space int,
  OUT wait_ms float8, OUT why text, OUT taken_in int, OUT probe boolean, OUT at float8, OUT requests_spare float8,
  OUT tokens_spare float8, OUT requests_per_minute float8, OUT tokens_per_minute float8
) LANGUAGE plpgsql AS $$
DECLARE
  a freshvec.account;
  of_day freshvec.spend_day;
  of_space freshvec.space_spend;
  now_s float8;
  requests_cost float8;
  tokens_cost float8;
  today date;
  of_day_held bigint;
  of_space_held bigint;
BEGIN
  -- A crash may forget the last takes; waiting for the disk would make all workers queue for it.
  PERFORM set_config('synchronous_commit', 'off', true);
  SELECT * INTO a FROM freshvec.account x WHERE x.account = take_budget.account FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    INSERT INTO freshvec.account AS x (account) VALUES (take_budget.account) ON CONFLICT DO NOTHING;
    SELECT * INTO a FROM freshvec.account x WHERE x.account = take_budget.account FOR NO KEY UPDATE;
  END IF;
  now_s := extract(epoch FROM clock_timestamp());
  requests_per_minute := a.share * LEAST(requests_cap, a.requests_limit);
  tokens_per_minute := a.share * LEAST(tokens_cap, a.tokens_limit);
  IF urgent THEN
    IF a.failures > 0 AND a.asked_at > clock_timestamp() - interval '1 s'
      AND (a.resumes_at > clock_timestamp() OR a.probe_until > clock_timestamp()) THEN
      wait_ms := GREATEST(1, (extract(epoch FROM a.asked_at) + 1 - now_s) * 1000);
      why := coalesce(a.reason, 'an outage');
      RETURN;
    END IF;
  ELSIF a.resumes_at > clock_timestamp() THEN
    wait_ms := (extract(epoch FROM a.resumes_at) - now_s) * 1000;
    why := coalesce(a.reason, 'a pause');
    RETURN;
  ELSIF a.failures > 0 AND a.probe_until > clock_timestamp() THEN
    wait_ms := 500;
    why := coalesce(a.reason, 'an outage');
    RETURN;
  END IF;
  wait_ms := 0;
  requests_cost := coalesce(freshvec.budget_seconds(requests, a.share, requests_cap, a.requests_limit), 0);
  tokens_cost := coalesce(freshvec.budget_seconds(tokens, a.share, tokens_cap, a.tokens_limit), 0);
  IF requests_cost > 1.05 THEN requests_cost := 61.5 / GREATEST(1, floor(61.5 / requests_cost)); END IF;
  IF tokens_cost > 1.05 THEN tokens_cost := 61.5 / GREATEST(1, floor(61.5 / tokens_cost)); END IF;
  IF NOT urgent THEN
    IF requests_cost > 0 THEN
      wait_ms := GREATEST(0, a.requests_at - now_s - GREATEST(0, burst - LEAST(requests_cost, 0.55)));
    END IF;
    IF tokens_cost > 0 THEN
      wait_ms := GREATEST(wait_ms, a.tokens_at - now_s - GREATEST(0, burst - LEAST(tokens_cost, 0.55)));
    END IF;
    IF wait_ms > 0 THEN
      wait_ms := wait_ms * 1000;
      why := 'budget';
      RETURN;
    END IF;
  END IF;
  a.requests_at := LEAST(GREATEST(a.requests_at, now_s) + requests_cost, now_s + 61.5);
  a.tokens_at := LEAST(GREATEST(a.tokens_at, now_s) + tokens_cost, now_s + 61.5);
  at := now_s;
  requests_spare := (1 - (a.requests_at - now_s)) * requests_per_minute / 61.5;
  tokens_spare := (1 - (a.tokens_at - now_s)) * tokens_per_minute / 61.5;
  -- After an outage one request goes ahead; the others wait for what becomes of it.
  probe := a.failures > 0 AND NOT urgent;
  taken_in := floor(now_s / 600);
  today := freshvec.day_of_period(taken_in);
  IF nanos > 0 THEN
    -- Everybody locks in this order: the account, spaces, days, what is reserved.
    IF space IS NOT NULL THEN
      INSERT INTO freshvec.space_spend AS s (space_id) VALUES (space) ON CONFLICT DO NOTHING;
      SELECT * INTO of_space FROM freshvec.space_spend s WHERE s.space_id = space FOR NO KEY UPDATE;
    END IF;
    INSERT INTO freshvec.spend_day AS d (day) VALUES (today) ON CONFLICT DO NOTHING;
    SELECT * INTO of_day FROM freshvec.spend_day d WHERE d.day = today FOR NO KEY UPDATE;
    -- A request is over long before, unless its worker was killed.
    DELETE FROM freshvec.spend_reserved r WHERE r.period < taken_in - 1;
    SELECT coalesce(sum(r.nanos) FILTER (WHERE freshvec.day_of_period(r.period) = today), 0),
      coalesce(sum(r.nanos) FILTER (WHERE r.space_id = space), 0)
    INTO of_day_held, of_space_held FROM freshvec.spend_reserved r;
    IF NOT urgent AND of_day.nanos + of_day_held + nanos > cap THEN
      wait_ms := extract(epoch FROM ((today + 1)::timestamp AT TIME ZONE 'UTC') - clock_timestamp()) * 1000;
      why := 'cap';
      IF of_day.nanos + nanos <= cap THEN
        wait_ms := LEAST(wait_ms, 250);
        why := 'cap_held';
      END IF;
      RETURN;
    END IF;
    IF NOT urgent AND of_space.nanos + of_space_held + nanos > of_space.cap_nanos THEN
      wait_ms := 'Infinity';
      why := 'space_cap';
      IF of_space.nanos + nanos <= of_space.cap_nanos THEN
        wait_ms := 250;
        why := 'space_cap_held';
      END IF;
      RETURN;
    END IF;
    INSERT INTO freshvec.spend_reserved AS r (period, space_id, nanos) VALUES (taken_in, space, nanos)
    ON CONFLICT (period, space_id) DO UPDATE SET nanos = r.nanos + excluded.nanos;
  END IF;
  UPDATE freshvec.account x
  SET requests_at = a.requests_at, tokens_at = a.tokens_at,
      requests_unmetered = CASE WHEN requests_per_minute IS NULL THEN a.requests_unmetered + requests ELSE 0 END,
      tokens_unmetered = CASE WHEN tokens_per_minute IS NULL THEN a.tokens_unmetered + tokens ELSE 0 END,
      asked_at = CASE WHEN urgent AND a.failures > 0 THEN clock_timestamp() ELSE a.asked_at END,
      probe_until = CASE WHEN probe THEN clock_timestamp() + interval '10 s' WHEN urgent THEN a.probe_until END
  WHERE x.account = a.account;
END
$$;

-- Puts down what was charged: [{period, source, space, fingerprint, purpose, texts, tokens, nanos, reserved}], where
-- `period` is that of the take (now without one) and `reserved` what was taken in it, which is given back.
CREATE FUNCTION record_spend(spent jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  this int := floor(extract(epoch FROM clock_timestamp()) / 600);
  one record;
BEGIN
  INSERT INTO freshvec.spend AS s (day, source, space_id, fingerprint, purpose, texts, tokens, nanos)
  SELECT freshvec.day_of_period(coalesce(e.period, this)) AS on_day, e.source, e.space, e.fingerprint, e.purpose,
    sum(e.texts), sum(e.tokens), sum(e.nanos)
  FROM jsonb_to_recordset(spent)
    AS e(period int, source text, space int, fingerprint text, purpose text, texts int8, tokens int8, nanos int8)
  GROUP BY on_day, e.source, e.space, e.fingerprint, e.purpose
  HAVING sum(e.tokens) > 0
  ORDER BY on_day, e.source, e.space, e.fingerprint, e.purpose
  ON CONFLICT (day, source, space_id, fingerprint, purpose) DO UPDATE
  SET texts = s.texts + excluded.texts, tokens = s.tokens + excluded.tokens, nanos = s.nanos + excluded.nanos;
  INSERT INTO freshvec.space_spend AS s (space_id, nanos)
  SELECT e.space, sum(e.nanos) FROM jsonb_to_recordset(spent) AS e(space int, nanos int8)
  WHERE e.space IS NOT NULL AND e.nanos > 0 GROUP BY e.space ORDER BY e.space
  ON CONFLICT (space_id) DO UPDATE SET nanos = s.nanos + excluded.nanos;
  INSERT INTO freshvec.spend_day AS d (day, nanos)
  SELECT freshvec.day_of_period(coalesce(e.period, this)) AS on_day, sum(e.nanos)
  FROM jsonb_to_recordset(spent) AS e(period int, nanos int8) WHERE e.nanos > 0 GROUP BY on_day ORDER BY on_day
  ON CONFLICT (day) DO UPDATE SET nanos = d.nanos + excluded.nanos;
  FOR one IN
    SELECT e.period, e.space, sum(e.reserved) AS nanos
    FROM jsonb_to_recordset(spent) AS e(period int, space int, reserved int8)
    WHERE e.reserved > 0 GROUP BY e.period, e.space ORDER BY e.period, e.space
  LOOP
    UPDATE freshvec.spend_reserved r SET nanos = GREATEST(0, r.nanos - one.nanos)
    WHERE r.period = one.period AND r.space_id IS NOT DISTINCT FROM one.space;
  END LOOP;
END
$$;

-- What became of requests that were granted: tokens over (or, negative, under) what was taken for them, the limits that
-- the provider named, whether one that went ahead after an outage ended without telling anything of the provider's
-- health, and what was charged (see record_spend).
--
-- `*_elsewhere`: how much less was left, by the answer to a request granted at `at`, than that request found spare;
-- somebody else uses the key, and it is taken as well. Both are of the moment of that request, so what was granted since
-- is neither in the one nor in the other. Requests granted before such a correction tell of the same loss again, and are
-- not listened to. More left than was thought is no news: a limit by window has the whole minute in it.
CREATE FUNCTION settle_budget(
  account text, tokens float8, requests_cap float8, tokens_cap float8, requests_limit float8, tokens_limit float8,
  at float8, requests_elsewhere float8, tokens_elsewhere float8, answered boolean, probe_is_over boolean, spent jsonb
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  now_s float8 := extract(epoch FROM clock_timestamp());
  x freshvec.account;
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  SELECT * INTO x FROM freshvec.account a WHERE a.account = settle_budget.account FOR NO KEY UPDATE;
  x.requests_limit := coalesce(settle_budget.requests_limit, x.requests_limit);
  x.tokens_limit := coalesce(settle_budget.tokens_limit, x.tokens_limit);
  IF at > x.corrected_at AND (requests_elsewhere > 0 OR tokens_elsewhere > 0) THEN
    x.corrected_at := now_s;
  ELSE
    requests_elsewhere := 0;
    tokens_elsewhere := 0;
  END IF;
  UPDATE freshvec.account a
  SET requests_limit = x.requests_limit, tokens_limit = x.tokens_limit, corrected_at = x.corrected_at,
      requests_at = LEAST(now_s + 61.5, GREATEST(x.requests_at, CASE WHEN x.requests_unmetered > 0 THEN now_s ELSE 0 END)
        + coalesce(freshvec.budget_seconds(requests_elsewhere, x.share, requests_cap, x.requests_limit), 0)
        -- Of what was taken before the limit was known, no more than the last minute can matter.
        + coalesce(LEAST(61.5,
          freshvec.budget_seconds(x.requests_unmetered, x.share, requests_cap, x.requests_limit)), 0)),
      tokens_at = LEAST(now_s + 61.5, GREATEST(x.tokens_at, CASE WHEN x.tokens_unmetered > 0 THEN now_s ELSE 0 END)
        + coalesce(freshvec.budget_seconds(tokens + tokens_elsewhere, x.share, tokens_cap, x.tokens_limit), 0)
        + coalesce(LEAST(61.5, freshvec.budget_seconds(x.tokens_unmetered, x.share, tokens_cap, x.tokens_limit)), 0)),
      requests_unmetered = CASE WHEN coalesce(requests_cap, x.requests_limit) IS NULL
        THEN x.requests_unmetered ELSE 0 END,
      tokens_unmetered = CASE WHEN coalesce(tokens_cap, x.tokens_limit) IS NULL
        THEN x.tokens_unmetered + tokens ELSE 0 END,
      -- Back to the whole limit at a hundredth a second.
      share = CASE WHEN answered
        THEN LEAST(1, x.share + 0.01 * GREATEST(0, extract(epoch FROM clock_timestamp() - x.share_rose_at)))
        ELSE x.share END,
      share_rose_at = CASE WHEN answered THEN GREATEST(x.share_rose_at, clock_timestamp()) ELSE x.share_rose_at END,
      failures = CASE WHEN answered THEN 0 ELSE x.failures END,
      probe_until = CASE WHEN answered OR probe_is_over THEN NULL ELSE x.probe_until END
  WHERE a.account = x.account;
  PERFORM freshvec.record_spend(spent);
END
$$;

-- The provider refused or failed: nobody asks again before `seconds` are over, where it named a time. A 429 that names up
-- to a minute is no more than that: all go on. Everything else is an outage: the pause is at least half a second, doubling
-- to a minute, with jitter, and one request goes ahead after it. Of several that fail at once only the first counts.
CREATE FUNCTION refuse_budget(account text, seconds float8, limited boolean, reason text) RETURNS void
  LANGUAGE plpgsql AS $$
DECLARE
  x freshvec.account;
  wait float8 := coalesce(seconds, 0);
  until timestamptz;
BEGIN
  SELECT * INTO x FROM freshvec.account a WHERE a.account = refuse_budget.account FOR NO KEY UPDATE;
  IF coalesce(x.resumes_at <= clock_timestamp(), true) THEN
    IF limited AND seconds <= 60 THEN
      wait := GREATEST(wait, 0.1);
    ELSE
      wait := GREATEST(wait, LEAST(60, 0.5 * 2 ^ LEAST(x.failures, 10)) * (0.75 + random() / 2));
      x.failures := x.failures + 1;
    END IF;
  END IF;
  until := clock_timestamp() + make_interval(secs => wait);
  IF until <= x.resumes_at THEN
    RETURN;
  END IF;
  IF limited THEN
    -- A volley of refusals is one.
    IF x.share_fell_at < clock_timestamp() - interval '1 s' THEN
      x.share := GREATEST(0.1, x.share * 0.95);
      x.share_fell_at := clock_timestamp();
    END IF;
    x.share_rose_at := until;
  END IF;
  UPDATE freshvec.account a
  SET failures = x.failures, share = x.share, share_fell_at = x.share_fell_at, share_rose_at = x.share_rose_at,
      reason = refuse_budget.reason, probe_until = NULL, resumes_at = until
  WHERE a.account = x.account;
END
$$;

REVOKE ALL ON FUNCTION budget_seconds(float8, float8, float8, float8), day_of_period(int),
  take_budget(text, float8, float8, float8, float8, float8, boolean, bigint, bigint, int), record_spend(jsonb),
  settle_budget(text, float8, float8, float8, float8, float8, float8, float8, float8, boolean, boolean, jsonb), refuse_budget(text, float8, boolean, text) FROM PUBLIC;
