-- Giving models other ids (api/model_ids.py). Rows are locked in the order apps, app_buckets (shared), reindexes,
-- models, model_versions, model_evaluations, workflow_versions, annotations, app_buckets (its version).

-- name: hold_base_workflow
-- Nobody asks for another one until the transaction ends.
SELECT FROM apps WHERE first_bucket = %(bucket)s FOR NO KEY UPDATE

-- name: interrupt_reindex
-- Whoever looks at inputs for another base workflow has lost the turn: what they say is by the former ids.
UPDATE reindexes SET lease_owner = NULL, lease_until = NULL WHERE bucket = %(bucket)s

-- name: lock
SELECT id FROM models WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY id FOR UPDATE

-- name: lock_versions
SELECT FROM model_versions WHERE bucket = %(bucket)s AND model_id = ANY(%(ids)s) ORDER BY id FOR UPDATE

-- name: rename
-- Versions follow by their foreign key.
UPDATE models SET id = %(new_id)s, modified_at = clock_timestamp() WHERE bucket = %(bucket)s AND id = %(id)s

-- name: rename_in_evaluations
UPDATE model_evaluations e SET model_id = v.model_id
FROM model_versions v
WHERE e.bucket = %(bucket)s AND v.bucket = %(bucket)s AND v.id = e.model_version_id AND e.model_id <> v.model_id

-- name: lock_nodes
SELECT id, nodes FROM workflow_versions WHERE bucket = %(bucket)s ORDER BY id FOR NO KEY UPDATE

-- name: update_nodes
UPDATE workflow_versions w SET nodes = r.nodes
FROM unnest(%(ids)s::text[], %(nodes)s::bytea[]) AS r (id, nodes)
WHERE w.bucket = %(bucket)s AND w.id = r.id

-- name: rename_by_id
-- All at once: one may get an id that another has had.
UPDATE {table} a SET model_id = r.new_id
FROM unnest(%(ids)s::text[], %(new_ids)s::text[]) AS r (id, new_id)
WHERE a.bucket = %(bucket)s AND a.model_id = r.id AND a.model_version_id <> ''

-- name: rename_by_version
UPDATE {table} a SET model_id = v.model_id
FROM model_versions v
WHERE v.bucket = %(bucket)s AND v.model_id = ANY(%(new_ids)s) AND a.bucket = %(bucket)s AND a.model_version_id = v.id
    AND a.model_version_id <> '' AND a.model_id <> v.model_id

-- name: rename_in_inputs
-- What has just been written about these inputs, under the names that models have now.
UPDATE annotations a SET model_id = v.model_id
FROM model_versions v
WHERE a.bucket = %(bucket)s AND a.input_number = ANY(%(numbers)s) AND a.model_version_id <> ''
    AND v.bucket = %(bucket)s AND v.id = a.model_version_id AND a.model_id <> v.model_id
