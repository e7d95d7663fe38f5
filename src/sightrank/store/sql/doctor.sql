-- name: versions
SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension WHERE extname = 'vector')

-- name: indexes
-- Every index: its name, whether it is complete, and whether somebody is building it just now.
SELECT c.relname, i.indisvalid AND i.indisready,
    EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = current_schema()::regnamespace

-- name: embedders
SELECT e.id, e.model_id, e.version_id, e.dims, greatest(c.reltuples, 0)::bigint
FROM embedders e JOIN pg_class c ON c.oid = to_regclass('vectors_' || e.id)
ORDER BY e.id

-- name: contents
SELECT 'apps', count(*)::text FROM apps
UNION ALL
SELECT 'inputs with status ' || status, count(*)::text FROM inputs GROUP BY status
UNION ALL
SELECT 'vectors of ' || e.model_id || ' ' || e.version_id, 'about ' || greatest(c.reltuples, 0)::bigint
FROM embedders e JOIN pg_class c ON c.oid = to_regclass('vectors_' || e.id)

-- name: reindexes
-- Apps whose base workflow is being changed, or could not be: how far each is, and since when nothing has happened.
SELECT a.user_id, a.id, a.workflow_id, r.workflow_id, r.state, r.failure,
    (SELECT count(*) FROM inputs i WHERE i.bucket = r.bucket AND i.status = 30000
        AND i.media IN ('image', 'video')),
    (SELECT count(DISTINCT s.input_number) FROM reindexed_areas s WHERE s.bucket = r.bucket),
    extract(epoch FROM clock_timestamp() - r.modified_at)::float8
FROM reindexes r JOIN apps a ON a.first_bucket = r.bucket
ORDER BY a.user_id, a.id
