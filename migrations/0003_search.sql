-- freshvec: safe
-- Search from SQL. `search` runs with the caller's own rights, so that grants and row-level security on the source
-- hold; only freshvec's catalog is read by SECURITY DEFINER functions.

GRANT USAGE ON SCHEMA freshvec TO PUBLIC;

-- PL/pgSQL and dear on purpose: a planner that sorts computes it after LIMIT, for the k rows only.
CREATE OR REPLACE FUNCTION is_stale(hash uuid, content text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 1000 AS $$
BEGIN
  RETURN hash IS DISTINCT FROM freshvec.content_hash(content);
END
$$;
COMMENT ON FUNCTION is_stale IS 'True unless the vector with this hash was made from this content.';

-- An expression over a row as text; NULL where the row cannot stand it. `tab` is the table's name, quoted.
CREATE OR REPLACE FUNCTION text_of(expression text, tab text, "row" anyelement) RETURNS text
LANGUAGE plpgsql STABLE COST 10000 AS $$
DECLARE
  result text;
BEGIN
  EXECUTE format('SELECT (%s)::text FROM (SELECT ($1).*) AS %s', expression, tab) INTO result USING "row";
  RETURN result;
EXCEPTION WHEN data_exception OR raise_exception THEN
  RETURN NULL;
END
$$;

CREATE OR REPLACE FUNCTION live(source text)
RETURNS TABLE (epoch bigint, space_id int, fingerprint text, dimensions int, metric text, store text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  IF NOT EXISTS (SELECT FROM freshvec.source o WHERE o.name = live.source) THEN
    RAISE EXCEPTION 'freshvec: there is no source "%"', live.source
      USING ERRCODE = 'undefined_object', HINT = 'freshvec source list names those that exist.';
  END IF;
  RETURN QUERY
    SELECT p.epoch, s.id, s.fingerprint, s.dimensions, s.metric, s.store
    FROM freshvec.source o
    JOIN freshvec.pointer p ON p.source_id = o.id
    JOIN freshvec.space s ON s.id = p.space_id
    WHERE o.name = live.source;
END
$$;
COMMENT ON FUNCTION live IS 'The space that answers searches of this source now; no row before there is one.';

-- The columns that freshvec writes on this table, and for which source. Those of a space that was dropped count until
-- they are gone: taking them away takes a while.
CREATE OR REPLACE FUNCTION own_columns(relation oid) RETURNS TABLE (column_name text, source text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
  SELECT s.column_name || suffix, o.name
  FROM freshvec.source o
  JOIN freshvec.space s ON s.source_id = o.id AND s.store = 'column'
  CROSS JOIN unnest(ARRAY['', '_model', '_hash']) AS suffix
  WHERE o.relation_oid = own_columns.relation AND (s.state <> 'dropped' OR EXISTS (
    SELECT FROM pg_attribute a
    WHERE a.attrelid = own_columns.relation AND NOT a.attisdropped AND a.attname::text = s.column_name || '_hash'))
  UNION
  SELECT o.flag_column, o.name FROM freshvec.source o
  WHERE o.relation_oid = own_columns.relation AND o.flag_column IS NOT NULL
$$;

-- What `search` needs of the catalog. `own_columns` are those that freshvec added to the table, for any source.
CREATE OR REPLACE FUNCTION search_target(source text, fingerprint text)
RETURNS TABLE (schema_name text, table_name text, key_columns text[], content_columns text[], content_sql text,
  filter_sql text, space_id int, store text, column_name text, vector_type text, dimensions int, metric text,
  vector_schema text, own_columns text[])
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
  PERFORM FROM freshvec.live(search_target.source);
  RETURN QUERY
    SELECT o.schema_name, o.table_name, o.key_columns, o.content_columns, o.content_sql,
      o.filter_sql, s.id, s.store, s.column_name, s.vector_type, s.dimensions, s.metric,
      (SELECT n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'),
      ARRAY(SELECT own.column_name FROM freshvec.own_columns(o.relation_oid) own)
    FROM freshvec.source o
    JOIN freshvec.space s ON s.source_id = o.id
    WHERE o.name = search_target.source AND s.fingerprint = search_target.fingerprint AND s.state IN ('live', 'retained')
    ORDER BY EXISTS (SELECT FROM freshvec.pointer p WHERE p.space_id = s.id) DESC, s.id DESC
    LIMIT 1;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'freshvec: the model "%" is neither live nor retained for the source "%"',
      search_target.fingerprint, search_target.source
      USING ERRCODE = 'object_not_in_prerequisite_state',
        HINT = 'Embed the query with the model that freshvec.live() names; vectors of two models are never compared.';
  END IF;
END
$$;

-- The text of a row as SQL over the row, as src/catalog/expressions.ts has it. `tab` is the table's name, quoted.
CREATE OR REPLACE FUNCTION content_expression(tab text, content_columns text[], content_sql text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  parts text;
BEGIN
  IF content_sql IS NOT NULL THEN
    RETURN format('(%s)::text', content_sql);
  END IF;
  SELECT string_agg(format('NULLIF(%s.%I::text, '''')', tab, name), ', ' ORDER BY i) INTO parts
  FROM unnest(content_columns) WITH ORDINALITY AS u(name, i);
  RETURN CASE WHEN cardinality(content_columns) > 1 THEN format('concat_ws(E''\n\n'', %s)', parts) ELSE parts END;
END
$$;

-- The text form of a row's key as SQL over the row.
CREATE OR REPLACE FUNCTION key_expression(tab text, key_columns text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  parts text;
BEGIN
  SELECT string_agg(format('%s.%I::text', tab, name), ', ' ORDER BY i) INTO parts
  FROM unnest(key_columns) WITH ORDINALITY AS u(name, i);
  RETURN CASE WHEN cardinality(key_columns) > 1 THEN format('jsonb_build_array(%s)::text', parts) ELSE parts END;
END
$$;

-- A table of vectors joined to the source below LIMIT: a vector whose row is not to be seen makes room for the next.
CREATE OR REPLACE FUNCTION joined_vectors(space_id int, key_columns text[], tab text, relation text) RETURNS text
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  keys text;
  same text;
BEGIN
  SELECT string_agg(format('%I AS __fv_k%s', name, i), ', ' ORDER BY i),
      string_agg(format('%s.%I = __fv_k%s', tab, name, i), ' AND ' ORDER BY i)
    INTO keys, same
  FROM unnest(key_columns) WITH ORDINALITY AS u(name, i);
  RETURN format(
    '(SELECT %s, hash AS __fv_hash, model AS __fv_model, embedding AS __fv_embedding FROM freshvec.%I) __fv_v JOIN %s ON %s',
    keys, 'vector_' || space_id, relation, same);
END
$$;

-- The statement of `search`; its parameters are the query, the fingerprint and k. Where the source's filter, row-level
-- security or the join of a table of vectors leaves rows out, the index may give up before k of them: then the same
-- snapshot is searched exactly. With `caught`, a row on which the content fails is stale, and one on which the filter
-- fails is left out.
CREATE OR REPLACE FUNCTION search_statement(source text, fingerprint text, query_dimensions int, caught boolean)
RETURNS text
LANGUAGE plpgsql STABLE AS $$
DECLARE
  target record;
  tab text;
  relation text;
  columns text[];
  vector text;
  hash text;
  model text;
  content text;
  filter text;
  vectors text;
  distance text;
  selected text;
  found text;
  hits text;
BEGIN
  SELECT * INTO target FROM freshvec.search_target(source, fingerprint);
  IF query_dimensions IS DISTINCT FROM target.dimensions THEN
    RAISE EXCEPTION 'freshvec: the query has % dimensions, the vectors of "%" have %',
      COALESCE(query_dimensions::text, 'no'), fingerprint, target.dimensions USING ERRCODE = 'invalid_parameter_value';
  END IF;
  tab := format('%I', target.table_name);
  relation := format('%I.%I', target.schema_name, target.table_name);
  SELECT array_agg(format('%I', a.attname) ORDER BY a.attnum) INTO columns
  FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = relation::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (target.own_columns);
  IF target.store = 'column' THEN
    vectors := relation;
    vector := format('%s.%I', tab, target.column_name);
    model := format('%s.%I', tab, target.column_name || '_model');
    hash := format('%s.%I', tab, target.column_name || '_hash');
  ELSE
    vectors := freshvec.joined_vectors(target.space_id, target.key_columns, tab, relation);
    vector := '__fv_embedding';
    model := '__fv_model';
    hash := '__fv_hash';
  END IF;
  distance := format('%s OPERATOR(%I.%s) $1::%I.%I(%s)', vector, target.vector_schema,
    CASE target.metric WHEN 'cosine' THEN '<=>' WHEN 'l2' THEN '<->' ELSE '<#>' END,
    target.vector_schema, target.vector_type, target.dimensions);
  content := freshvec.content_expression(tab, target.content_columns, target.content_sql);
  filter := COALESCE(target.filter_sql, 'true');
  IF caught THEN
    content := format('freshvec.text_of(%L, %L, %s.*)', content, tab, tab);
    filter := format('freshvec.text_of(%L, %L, %s.*)::boolean', filter, tab, tab);
  END IF;
  selected := format('SELECT %s, %s AS __fv_key, freshvec.is_stale(%s, %s) AS __fv_stale',
    (SELECT string_agg(tab || '.' || name, ', ' ORDER BY i) FROM unnest(columns) WITH ORDINALITY AS u(name, i)),
    freshvec.key_expression(tab, target.key_columns), hash, content);
  found := format('FROM %s WHERE %s IS NOT NULL AND %s = $2 AND (%s)', vectors, vector, model, filter);
  hits := format('%1$s, %3$s AS __fv_distance %2$s ORDER BY %3$s LIMIT $3', selected, found, distance);
  IF target.filter_sql IS NOT NULL OR target.store = 'table' OR row_security_active(relation::regclass) THEN
    -- No vector index gives the order of a sum.
    hits := format(
      'WITH __fv_near AS (%1$s)
       SELECT * FROM __fv_near WHERE (SELECT count(*) FROM __fv_near) >= $3
       UNION ALL
       SELECT * FROM (%2$s, %4$s AS __fv_distance %3$s ORDER BY %4$s LIMIT $3) __fv_exact
       WHERE (SELECT count(*) FROM __fv_near) < $3',
      hits, selected, found, '(' || distance || ') + 0');
  END IF;
  -- A sum, so that the rows are really sorted, before the first is given: the planner takes the order that the index gives
  -- for theirs, and it is relaxed.
  RETURN format(
    'SELECT __fv_key, __fv_distance, __fv_stale, (SELECT to_jsonb(__fv_r) FROM (SELECT %s) __fv_r)
     FROM (%s) __fv_h WHERE __fv_distance <> ''NaN'' ORDER BY __fv_distance + 0',
    (SELECT string_agg('__fv_h.' || name, ', ' ORDER BY i) FROM unnest(columns) WITH ORDINALITY AS u(name, i)), hits);
END
$$;

CREATE OR REPLACE FUNCTION search(source text, fingerprint text, query vector, k int DEFAULT 10)
RETURNS TABLE (key text, distance float8, stale boolean, "row" jsonb)
LANGUAGE plpgsql
-- What a value's text depends on: keys and hashes are made under these settings.
SET timezone = 'UTC' SET datestyle = 'ISO, MDY' SET intervalstyle = 'postgres'
SET extra_float_digits = 1 SET bytea_output = 'hex'
AS $$
#variable_conflict use_column
DECLARE
  former_ef text := NULLIF(current_setting('hnsw.ef_search', true), '');
  former_scan text := NULLIF(current_setting('hnsw.iterative_scan', true), '');
  former_tuples text := NULLIF(current_setting('hnsw.max_scan_tuples', true), '');
  former_memory text := NULLIF(current_setting('hnsw.scan_mem_multiplier', true), '');
  former_seqscan text := current_setting('enable_seqscan');
  -- From the text form, [1,2,3]: pgvector's functions are not to be had by name under every search_path.
  query_dimensions int := cardinality(string_to_array(search.query::text, ','));
  statement text;
  former_statement text;
  caught boolean := false;
BEGIN
  IF search.k IS NULL OR search.k NOT BETWEEN 1 AND 1000 THEN
    RAISE EXCEPTION 'freshvec: k must be 1 to 1000, not %', COALESCE(search.k::text, 'NULL')
      USING ERRCODE = 'invalid_parameter_value';
  END IF;
  PERFORM set_config('hnsw.ef_search', greatest(80, search.k, former_ef::int)::text, true),
    set_config('hnsw.iterative_scan', 'relaxed_order', true),
    -- As src/search/scan.ts has it.
    set_config('hnsw.max_scan_tuples', greatest(50000, former_tuples::int)::text, true),
    set_config('hnsw.scan_mem_multiplier', greatest(4, former_memory::float8)::text, true);
  -- Likewise: the planner takes a table of vectors that are kept out of line for a small one. Where rows are left out, an
  -- exact search may have to follow, which reads them all.
  PERFORM set_config('enable_seqscan', 'off', true)
  FROM freshvec.search_target(search.source, search.fingerprint) t
    JOIN pg_catalog.pg_class c ON c.relname = 'vector_' || t.space_id AND c.relnamespace = 'freshvec'::regnamespace
  WHERE t.store = 'table' AND c.reltuples >= 10000 AND t.filter_sql IS NULL
    AND NOT row_security_active(format('%I.%I', t.schema_name, t.table_name)::regclass)
    AND EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
      JOIN pg_catalog.pg_am a ON a.oid = x.relam JOIN pg_catalog.pg_opclass oc ON oc.oid = i.indclass[0]
      WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND a.amname IN ('hnsw', 'ivfflat')
        AND oc.opcname = format('%s_%s_ops', t.vector_type, t.metric));
  LOOP
    statement := freshvec.search_statement(search.source, search.fingerprint, query_dimensions, caught);
    EXIT WHEN statement = former_statement;
    former_statement := statement;
    BEGIN
      RETURN QUERY EXECUTE statement USING search.query, search.fingerprint, search.k;
      -- The columns may have exchanged their names (`reembed cutover --rename`) after the statement was made: then it
      -- found no vector of this model under the name. From here on the table is locked, as by any SELECT.
      EXIT WHEN FOUND;
    EXCEPTION WHEN data_exception OR raise_exception THEN
      -- Content or filter fails on a row.
      IF caught THEN
        RAISE;
      END IF;
      caught := true;
    END;
  END LOOP;
  PERFORM set_config('hnsw.ef_search', COALESCE(former_ef, '40'), true),
    set_config('hnsw.iterative_scan', COALESCE(former_scan, 'off'), true),
    set_config('hnsw.max_scan_tuples', COALESCE(former_tuples, '20000'), true),
    set_config('hnsw.scan_mem_multiplier', COALESCE(former_memory, '1'), true),
    set_config('enable_seqscan', former_seqscan, true);
END
$$;
COMMENT ON FUNCTION search IS 'The k rows of the source nearest to the query, which was embedded with the model of this fingerprint.';
