/**
 * A CTE `rel(oid)`: the tables of `$1::oid[]` and all their partitions. From pg_inherits alone, without the locks that
 * pg_partition_tree takes: a throttle must not queue behind the app's ALTER TABLE.
 */
export const RELATIONS = `WITH RECURSIVE rel(oid) AS (
  SELECT unnest($1::oid[]) UNION SELECT i.inhrelid FROM pg_inherits i JOIN rel ON rel.oid = i.inhparent)`;
