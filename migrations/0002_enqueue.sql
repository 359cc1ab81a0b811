-- freshvec: safe
-- freshvec.enqueue: the door for every language, inside the app's own transaction.

-- The text form of a key, as capture writes it: each part goes through its column's type, so that '0042' is '42'.
CREATE FUNCTION key_text(source_id int, parts jsonb) RETURNS text
  LANGUAGE plpgsql STABLE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO, MDY'
AS $$
DECLARE
  names text[];
  types text[];
  given text[];
  rendered text[] := '{}';
  part text;
BEGIN
  SELECT s.key_columns, s.key_types INTO names, types FROM freshvec.source s WHERE s.id = source_id;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'freshvec: there is no source with the id %', source_id USING ERRCODE = 'undefined_object';
  END IF;
  IF jsonb_typeof(parts) = 'array' THEN
    given := ARRAY(SELECT value FROM jsonb_array_elements_text(parts) WITH ORDINALITY ORDER BY ordinality);
  ELSIF jsonb_typeof(parts) = 'object' AND parts ?& names THEN
    given := ARRAY(SELECT parts ->> name FROM unnest(names) WITH ORDINALITY AS n(name, i) ORDER BY i);
    IF (SELECT count(*) FROM jsonb_object_keys(parts)) <> cardinality(names) THEN given := NULL; END IF;
  END IF;
  IF given IS NULL OR cardinality(given) <> cardinality(names) OR array_position(given, NULL) IS NOT NULL THEN
    RAISE EXCEPTION 'freshvec: the key must hold a value for each of: %', array_to_string(names, ', ')
      USING ERRCODE = 'invalid_parameter_value',
            HINT = 'A key of several columns is a JSON array in this order, or a JSON object with these names.';
  END IF;
  FOR i IN 1 .. cardinality(names) LOOP
    BEGIN
      EXECUTE format('SELECT ($1::%s)::text', types[i]) INTO part USING given[i];
    EXCEPTION WHEN data_exception THEN
      RAISE EXCEPTION 'freshvec: the value given for the key column "%" is no %', names[i], types[i]
        USING ERRCODE = 'invalid_parameter_value';
    END;
    rendered := rendered || part;
  END LOOP;
  RETURN CASE cardinality(names) WHEN 1 THEN rendered[1] ELSE to_jsonb(rendered)::text END;
END
$$;
COMMENT ON FUNCTION key_text(int, jsonb) IS 'The key of a row as freshvec writes it, from its parts: a JSON array in key order, or an object.';

-- Says that the row with this key may be stale. `source` is the name of a source, or of a table: then every source on it.
CREATE FUNCTION enqueue(source text, key text, force boolean DEFAULT false) RETURNS int
  LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  target record;
  parts jsonb;
  found_any boolean := false;
  added int;
  total int := 0;
  wanted text[];
BEGIN
  IF NOT EXISTS (SELECT FROM freshvec.source s WHERE s.name = enqueue.source) THEN
    BEGIN
      wanted := parse_ident(enqueue.source);
    EXCEPTION WHEN invalid_parameter_value THEN
      wanted := ARRAY[enqueue.source];
    END;
  END IF;
  FOR target IN
    SELECT s.id, cardinality(s.key_columns) AS width FROM freshvec.source s
    LEFT JOIN pg_class c ON c.oid = s.relation_oid LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE s.name = enqueue.source
       OR wanted IN (ARRAY[c.relname::text], ARRAY[n.nspname::text, c.relname::text])
    ORDER BY s.id
  LOOP
    found_any := true;
    IF enqueue.key IS NULL THEN
      RAISE EXCEPTION 'freshvec.enqueue: the key is null' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    BEGIN
      parts := CASE target.width WHEN 1 THEN jsonb_build_array(enqueue.key) ELSE enqueue.key::jsonb END;
    EXCEPTION WHEN data_exception THEN
      RAISE EXCEPTION 'freshvec.enqueue: the key of a source with % key columns is a JSON array or object', target.width
        USING ERRCODE = 'invalid_parameter_value';
    END;
    INSERT INTO freshvec.change (space_id, lane, key, force)
    SELECT p.id, 0, freshvec.key_text(target.id, parts), NULLIF(enqueue.force, false)
    FROM freshvec.space p
    WHERE p.source_id = target.id AND p.state IN ('building', 'ready', 'live', 'retained');
    GET DIAGNOSTICS added = ROW_COUNT;
    total := total + added;
  END LOOP;
  IF NOT found_any THEN
    RAISE EXCEPTION 'freshvec.enqueue: there is no source, and no table with a source, called "%"', enqueue.source
      USING ERRCODE = 'undefined_object',
            HINT = coalesce('There are: ' || (SELECT string_agg(s.name, ', ' ORDER BY s.name) FROM freshvec.source s),
                            'No source has been added yet.');
  END IF;
  -- The doorbell. PREPARE TRANSACTION fails after a NOTIFY. One transaction at a time rings: a commit that notifies waits
  -- for the disk under a lock that all of them take.
  IF total > 0 AND pg_sequence_last_value('freshvec.ring_until'::regclass) > date_part('epoch', now())
    AND current_setting('max_prepared_transactions') = '0' AND pg_try_advisory_xact_lock(6617, 1) THEN
    PERFORM pg_notify('freshvec', '');
  END IF;
  RETURN total;
END
$$;
COMMENT ON FUNCTION enqueue(text, text, boolean) IS
  'Has the row with this key embedded again if its text changed; with force, in any case. Returns the number of changes written.';

REVOKE ALL ON FUNCTION key_text(int, jsonb), enqueue(text, text, boolean) FROM PUBLIC;
