-- Giving models other ids (api/model_ids.py). Rows are locked in the order apps, reindexes, app_buckets (shared),
-- models, model_versions, model_evaluations, workflow_versions, app_buckets (its version).

-- name: hold_base_workflow
-- Nobody asks for another one until the transaction ends …
SELECT FROM apps WHERE first_bucket = %(bucket)s FOR NO KEY UPDATE

-- name: hold_reindex
-- … and nobody changes over to one.
SELECT FROM reindexes WHERE bucket = %(bucket)s FOR NO KEY UPDATE

-- name: lock
SELECT id FROM models WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY id FOR UPDATE

-- name: lock_versions
SELECT FROM model_versions WHERE bucket = %(bucket)s AND model_id = ANY(%(ids)s) ORDER BY id FOR UPDATE

-- name: rename
-- Versions follow by their foreign key, and what they have said later (ingest/renamed_models.py).
UPDATE models SET id = %(new_id)s, renamed_at = clock_timestamp(), modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND id = %(id)s

-- name: rename_in_evaluations
UPDATE model_evaluations e SET model_id = v.model_id
FROM model_versions v
WHERE e.bucket = %(bucket)s AND v.bucket = %(bucket)s AND v.id = e.model_version_id AND e.model_id <> v.model_id

-- name: lock_nodes
-- One portion of those in which the ids stand somewhere.
SELECT id, nodes FROM workflow_versions
WHERE bucket = %(bucket)s AND id > %(after_id)s
    AND EXISTS (SELECT FROM unnest(%(ids)s::text[]) m WHERE position(convert_to(m, 'UTF8') IN nodes) > 0)
ORDER BY id LIMIT 64 FOR NO KEY UPDATE

-- name: update_nodes
UPDATE workflow_versions w SET nodes = r.nodes
FROM unnest(%(ids)s::text[], %(nodes)s::bytea[]) AS r (id, nodes)
WHERE w.bucket = %(bucket)s AND w.id = r.id

-- name: renamed
SELECT bucket, id FROM models WHERE renamed_at IS NOT NULL ORDER BY bucket, id

-- name: mark
SELECT renamed_at FROM models WHERE bucket = %(bucket)s AND id = %(id)s AND renamed_at IS NOT NULL

-- name: versions
SELECT id FROM model_versions WHERE bucket = %(bucket)s AND model_id = %(id)s ORDER BY id

-- name: hold_renamed
-- It keeps its id until the transaction ends. By the time another model that has its id by now is told from it.
SELECT FROM models WHERE bucket = %(bucket)s AND id = %(id)s AND renamed_at = %(renamed_at)s FOR KEY SHARE

-- name: follow
-- One portion of what a version has said, in the order of their index; the last of it, and whether something changed.
WITH said AS (
    SELECT input_number, id, created_at FROM annotations
    WHERE bucket = %(bucket)s AND model_version_id = %(version_id)s AND model_version_id <> ''
        AND (created_at, id) > (%(created_at)s::timestamptz, %(after_id)s)
    ORDER BY created_at, id LIMIT 2000
), renamed AS (
    UPDATE annotations a SET model_id = %(id)s FROM said s
    WHERE a.bucket = %(bucket)s AND a.input_number = s.input_number AND a.id = s.id AND a.model_id <> %(id)s
    RETURNING 1
)
SELECT created_at, id, EXISTS (SELECT FROM renamed) FROM said ORDER BY created_at DESC, id DESC LIMIT 1

-- name: followed
UPDATE models SET renamed_at = NULL WHERE bucket = %(bucket)s AND id = %(id)s AND renamed_at = %(renamed_at)s

-- name: rename_in_inputs
-- What has just been written about these inputs, under the names that models have now.
UPDATE annotations a SET model_id = v.model_id
FROM model_versions v
WHERE a.bucket = %(bucket)s AND a.input_number = ANY(%(numbers)s) AND a.model_version_id <> ''
    AND v.bucket = %(bucket)s AND v.id = a.model_version_id AND a.model_id <> v.model_id
