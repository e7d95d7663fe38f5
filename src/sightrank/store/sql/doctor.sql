-- name: versions
SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector')

-- name: invalid_indexes
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid OR NOT i.indisready

-- name: contents
SELECT 'apps', count(*)::text FROM apps
UNION ALL
SELECT 'inputs with status ' || status, count(*)::text FROM inputs GROUP BY status
UNION ALL
SELECT 'vectors of ' || e.model_id || ' ' || e.version_id, 'about ' || greatest(c.reltuples, 0)::bigint
FROM embedders e JOIN pg_class c ON c.oid = to_regclass('vectors_' || e.id)
