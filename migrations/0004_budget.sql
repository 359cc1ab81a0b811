-- freshvec: safe
-- What the fleet may ask of a provider, what it cost, and which sources rest.

CREATE TABLE account (
  account text PRIMARY KEY,
  requests_cap float8,
  tokens_cap float8,
  requests_limit float8,
  tokens_limit float8,
  requests_at float8 NOT NULL DEFAULT 0,
  tokens_at float8 NOT NULL DEFAULT 0,
  requests_unmetered float8 NOT NULL DEFAULT 0,
  tokens_unmetered float8 NOT NULL DEFAULT 0,
  share float8 NOT NULL DEFAULT 1,
  share_at timestamptz NOT NULL DEFAULT now(),
  failures int NOT NULL DEFAULT 0,
  resumes_at timestamptz,
  probe_until timestamptz,
  reason text
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
COMMENT ON TABLE account IS 'One model under one key at one provider, and what all workers together have asked of it.';
COMMENT ON COLUMN account.requests_cap IS 'Requests a minute that the configuration allows.';
COMMENT ON COLUMN account.requests_limit IS 'Requests a minute that the provider allows, by its own word.';
COMMENT ON COLUMN account.requests_at IS 'Theoretical arrival time of the next request (GCRA), Unix time in s.';
COMMENT ON COLUMN account.tokens_unmetered IS 'Taken while the limit was not known; counts as soon as it is.';
COMMENT ON COLUMN account.share IS 'Part of the limit that is used: falls when the provider refuses, since somebody else uses the key too.';
COMMENT ON COLUMN account.failures IS 'Outages in a row; the next try after one is made by one worker alone.';

CREATE TABLE spend_day (
  day date PRIMARY KEY,
  micros bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE spend_day IS 'Millionths of a dollar that a day (UTC) has cost so far, requests under way included.';

CREATE TABLE spend (
  day date NOT NULL,
  source text NOT NULL,
  fingerprint text NOT NULL,
  texts bigint NOT NULL,
  tokens bigint NOT NULL,
  micros bigint NOT NULL,
  PRIMARY KEY (day, source, fingerprint)
);
COMMENT ON TABLE spend IS 'What was embedded and charged; by the name of the source, which outlives the source.';

CREATE TABLE pause (
  source_id int NOT NULL REFERENCES source ON DELETE CASCADE,
  kind text NOT NULL CHECK (kind IN ('person', 'spend', 'provider')),
  reason text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  until timestamptz,
  PRIMARY KEY (source_id, kind)
);
COMMENT ON TABLE pause IS 'Sources that are not worked on, and why. Changes go on being noticed.';

-- Asks for one request of so many tokens. `wait_ms` is 0 where it is granted; else `why` says what it waits for:
-- 'budget', 'cap' (the day's money), or the reason of a pause that the provider asked for. Says the limits as well, as far
-- as they are known.
--
-- GCRA: an arrival time runs ahead of the clock by what each request takes of the limit, at most by `burst` seconds.
-- The limit is spread over 61.5 s rather than 60, so that in no window of 60 s, bursts and late arrivals included, more
-- than the limit is asked for. A request that costs more than the burst passes when nothing is owed.
CREATE FUNCTION take_budget(
  account text, requests float8, tokens float8, burst float8, micros bigint, cap bigint,
  OUT wait_ms float8, OUT why text, OUT requests_per_minute float8, OUT tokens_per_minute float8
) LANGUAGE plpgsql AS $$
DECLARE
  a freshvec.account;
  now_s float8;
  cost float8;
  next_requests_at float8;
  next_tokens_at float8;
  today date;
BEGIN
  -- A crash may forget the last takes; waiting for the disk would make all workers queue for it.
  PERFORM set_config('synchronous_commit', 'off', true);
  SELECT * INTO a FROM freshvec.account x WHERE x.account = take_budget.account FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    INSERT INTO freshvec.account AS x (account) VALUES (take_budget.account) ON CONFLICT DO NOTHING;
    SELECT * INTO a FROM freshvec.account x WHERE x.account = take_budget.account FOR NO KEY UPDATE;
  END IF;
  now_s := extract(epoch FROM clock_timestamp());
  requests_per_minute := a.share * LEAST(a.requests_cap, a.requests_limit);
  tokens_per_minute := a.share * LEAST(a.tokens_cap, a.tokens_limit);
  IF a.resumes_at > clock_timestamp() THEN
    wait_ms := (extract(epoch FROM a.resumes_at) - now_s) * 1000;
    why := coalesce(a.reason, 'a pause');
    RETURN;
  END IF;
  IF a.failures > 0 AND a.probe_until > clock_timestamp() THEN
    wait_ms := 500;
    why := coalesce(a.reason, 'an outage');
    RETURN;
  END IF;
  wait_ms := 0;
  cost := coalesce(requests * 61.5 / requests_per_minute, 0);
  next_requests_at := GREATEST(a.requests_at, now_s) + cost;
  IF cost > 0 THEN wait_ms := GREATEST(0, a.requests_at - now_s - GREATEST(0, burst - cost)); END IF;
  cost := coalesce(tokens * 61.5 / tokens_per_minute, 0);
  next_tokens_at := GREATEST(a.tokens_at, now_s) + cost;
  IF cost > 0 THEN wait_ms := GREATEST(wait_ms, a.tokens_at - now_s - GREATEST(0, burst - cost)); END IF;
  IF wait_ms > 0 THEN
    wait_ms := wait_ms * 1000;
    why := 'budget';
    RETURN;
  END IF;
  IF micros > 0 THEN
    today := (clock_timestamp() AT TIME ZONE 'UTC')::date;
    INSERT INTO freshvec.spend_day AS d (day, micros) VALUES (today, 0) ON CONFLICT DO NOTHING;
    UPDATE freshvec.spend_day d SET micros = d.micros + take_budget.micros
    WHERE d.day = today AND (cap IS NULL OR d.micros + take_budget.micros <= cap);
    IF NOT FOUND THEN
      wait_ms := extract(epoch FROM ((today + 1)::timestamp AT TIME ZONE 'UTC') - clock_timestamp()) * 1000;
      why := 'cap';
      RETURN;
    END IF;
  END IF;
  UPDATE freshvec.account x
  SET requests_at = next_requests_at, tokens_at = next_tokens_at,
      requests_unmetered = CASE WHEN requests_per_minute IS NULL THEN a.requests_unmetered + requests ELSE 0 END,
      tokens_unmetered = CASE WHEN tokens_per_minute IS NULL THEN a.tokens_unmetered + tokens ELSE 0 END,
      -- After an outage one request goes ahead; the others wait for what becomes of it.
      probe_until = CASE WHEN a.failures > 0 THEN clock_timestamp() + interval '10 s' END
  WHERE x.account = a.account;
END
$$;

-- What became of requests that were granted: tokens and money over (or, negative, under) what was taken for them, and
-- the limits that the provider named.
CREATE FUNCTION settle_budget(
  account text, tokens float8, micros bigint, requests_limit float8, tokens_limit float8, answered boolean
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  now_s float8 := extract(epoch FROM clock_timestamp());
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  UPDATE freshvec.account x
  SET requests_limit = coalesce(settle_budget.requests_limit, x.requests_limit),
      tokens_limit = coalesce(settle_budget.tokens_limit, x.tokens_limit),
      requests_at = GREATEST(x.requests_at, CASE WHEN x.requests_unmetered > 0 THEN now_s ELSE 0 END)
        + coalesce(LEAST(61.5, x.requests_unmetered * 61.5 / (x.share
          * LEAST(x.requests_cap, coalesce(settle_budget.requests_limit, x.requests_limit)))), 0),
      tokens_at = GREATEST(x.tokens_at, CASE WHEN x.tokens_unmetered > 0 THEN now_s ELSE 0 END)
        + coalesce(settle_budget.tokens * 61.5 / (x.share
          * LEAST(x.tokens_cap, coalesce(settle_budget.tokens_limit, x.tokens_limit))), 0)
        -- Of what was taken before, no more than the last minute can matter.
        + coalesce(LEAST(61.5, x.tokens_unmetered * 61.5 / (x.share
          * LEAST(x.tokens_cap, coalesce(settle_budget.tokens_limit, x.tokens_limit)))), 0),
      requests_unmetered = CASE WHEN coalesce(x.requests_cap, settle_budget.requests_limit, x.requests_limit) IS NULL
        THEN x.requests_unmetered ELSE 0 END,
      tokens_unmetered = CASE WHEN coalesce(x.tokens_cap, settle_budget.tokens_limit, x.tokens_limit) IS NULL
        THEN x.tokens_unmetered + settle_budget.tokens ELSE 0 END,
      -- Back to the whole limit at a hundredth a second.
      share = CASE WHEN answered
        THEN LEAST(1, x.share + 0.01 * extract(epoch FROM clock_timestamp() - x.share_at)) ELSE x.share END,
      share_at = CASE WHEN answered THEN clock_timestamp() ELSE x.share_at END,
      failures = CASE WHEN answered THEN 0 ELSE x.failures END,
      probe_until = CASE WHEN answered THEN NULL ELSE x.probe_until END
  WHERE x.account = settle_budget.account;
  IF micros <> 0 THEN
    UPDATE freshvec.spend_day d SET micros = GREATEST(0, d.micros + settle_budget.micros)
    WHERE d.day = (clock_timestamp() AT TIME ZONE 'UTC')::date;
  END IF;
END
$$;

-- The provider refused or failed: nobody asks again before `seconds` are over, where it named a time; else the pause
-- doubles from half a second to a minute, with jitter. Of several that fail at once only the first counts.
CREATE FUNCTION refuse_budget(account text, seconds float8, limited boolean, reason text) RETURNS void
  LANGUAGE plpgsql AS $$
BEGIN
  UPDATE freshvec.account x
  SET failures = CASE WHEN seconds IS NULL THEN x.failures + 1 ELSE x.failures END,
      share = CASE WHEN limited AND x.share_at < clock_timestamp() - interval '1 s'
        THEN GREATEST(0.1, x.share * 0.95) ELSE x.share END,
      share_at = CASE WHEN limited THEN clock_timestamp() ELSE x.share_at END,
      reason = refuse_budget.reason,
      probe_until = NULL,
      resumes_at = clock_timestamp()
        + make_interval(secs => coalesce(seconds, LEAST(60, 0.5 * 2 ^ LEAST(x.failures, 10)) * (0.75 + random() / 2)))
  WHERE x.account = refuse_budget.account
    AND (x.resumes_at IS NULL OR x.resumes_at <= clock_timestamp()
      OR seconds IS NOT NULL AND x.resumes_at < clock_timestamp() + make_interval(secs => seconds));
END
$$;

REVOKE ALL ON FUNCTION take_budget(text, float8, float8, float8, bigint, bigint),
  settle_budget(text, float8, bigint, float8, float8, boolean), refuse_budget(text, float8, boolean, text) FROM PUBLIC;
