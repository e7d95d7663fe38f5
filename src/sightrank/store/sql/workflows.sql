-- Workflows of apps: graphs of models (migration 0010).

-- name: synonyms
-- What the app's concepts are synonyms of: for each predicted concept the app's own ones.
SELECT e.predicted, e.own
FROM (
    SELECT subject_id AS predicted, object_id AS own, knowledge_graph_id, created_at, id FROM concept_relations
    WHERE bucket = %(bucket)s AND predicate = 'synonym'
    UNION ALL
    SELECT object_id, subject_id, knowledge_graph_id, created_at, id FROM concept_relations
    WHERE bucket = %(bucket)s AND predicate = 'synonym'
) e
JOIN concepts c ON c.bucket = %(bucket)s AND c.id = e.own
WHERE %(knowledge_graph_id)s = '' OR e.knowledge_graph_id = %(knowledge_graph_id)s
ORDER BY e.created_at, e.id

-- name: labelled_concepts
SELECT DISTINCT concept_id FROM labels WHERE bucket = %(bucket)s AND trusted ORDER BY concept_id

-- name: versions
-- With the language in which its concepts are named.
SELECT v.version, v.labels_version, a.default_language
FROM app_buckets v JOIN apps a ON a.first_bucket = v.bucket WHERE v.bucket = %(bucket)s

-- name: labelled_since
-- Whether an area that somebody labelled has got a vector since a version of the bucket.
SELECT EXISTS (
    SELECT FROM {vectors} v
    JOIN labels l ON l.bucket = v.bucket AND l.input_number = v.input_number AND l.area_id = v.area_id
    WHERE v.bucket = %(bucket)s AND v.version > %(version)s AND l.bucket = %(bucket)s AND l.trusted
)

-- name: nodes
-- Of the version asked for ('': the latest).
SELECT v.id, v.nodes, w.visibility
FROM workflow_versions v JOIN workflows w ON w.bucket = v.bucket AND w.id = v.workflow_id
WHERE v.bucket = %(bucket)s AND v.workflow_id = %(workflow_id)s AND (%(version_id)s = '' OR v.id = %(version_id)s)
ORDER BY v.created_at DESC, v.id DESC LIMIT 1

-- name: names_others
SELECT nodes <> %(stored)s FROM workflow_versions WHERE bucket = %(bucket)s AND id = %(version_id)s

-- name: version_messages
SELECT id, message FROM model_versions WHERE bucket = %(bucket)s AND id = ANY(%(version_ids)s)

-- name: hold_models
-- They keep their ids until the transaction ends.
SELECT id FROM models WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY id FOR KEY SHARE

-- name: insert
INSERT INTO workflows (
    bucket, id, description, notes, metadata, use_cases, image_url, visibility, created_at, modified_at
)
SELECT %(bucket)s, r.id, r.description, r.notes, r.metadata, r.use_cases, r.image_url, r.visibility,
    t.now + r.place * interval '1 us', t.now + r.place * interval '1 us'
FROM jsonb_to_recordset(%(rows)s) AS r (
    place int, id text, description text, notes text, metadata jsonb, use_cases text[], image_url text, visibility int
), (SELECT clock_timestamp() AS now) t
ORDER BY r.id
ON CONFLICT DO NOTHING
RETURNING id

-- name: insert_version
-- Later than the ones before it, however close they were posted.
INSERT INTO workflow_versions (
    bucket, id, workflow_id, nodes, description, license, metadata, visibility, created_at, modified_at
)
SELECT %(bucket)s, %(id)s, %(workflow_id)s, %(nodes)s, %(description)s, %(license)s, %(metadata)s, %(visibility)s, t.now, t.now
FROM (
    SELECT greatest(clock_timestamp(), max(created_at) + interval '1 us') AS now FROM workflow_versions
    WHERE bucket = %(bucket)s AND workflow_id = %(workflow_id)s
) t

-- name: lock
-- In order of id, so that two calls cannot wait for each other.
SELECT id, description, notes, metadata, use_cases, image_url, visibility FROM workflows
WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY id FOR UPDATE

-- name: update
UPDATE workflows SET description = %(description)s, notes = %(notes)s, metadata = %(metadata)s,
    use_cases = %(use_cases)s, image_url = %(image_url)s, visibility = %(visibility)s, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND id = %(id)s

-- name: read
-- Workflows with their latest versions.
SELECT w.id, w.description, w.notes, w.metadata, w.use_cases, w.image_url, w.visibility, w.created_at, w.modified_at,
    v.id, v.workflow_id, v.nodes, v.description, v.license, v.metadata, v.visibility, v.is_deprecated, v.created_at,
    v.modified_at
FROM workflows w JOIN LATERAL (
    SELECT * FROM workflow_versions v WHERE v.bucket = w.bucket AND v.workflow_id = w.id
    ORDER BY v.created_at DESC, v.id DESC LIMIT 1
) v ON true
WHERE w.bucket = %(bucket)s AND w.id = ANY(%(ids)s)

-- name: list
-- The same of a whole app; condition, order and page are appended.
SELECT w.id, w.description, w.notes, w.metadata, w.use_cases, w.image_url, w.visibility, w.created_at, w.modified_at,
    v.id, v.workflow_id, v.nodes, v.description, v.license, v.metadata, v.visibility, v.is_deprecated, v.created_at,
    v.modified_at
FROM workflows w JOIN LATERAL (
    SELECT * FROM workflow_versions v WHERE v.bucket = w.bucket AND v.workflow_id = w.id
    ORDER BY v.created_at DESC, v.id DESC LIMIT 1
) v ON true
WHERE w.bucket = %(bucket)s AND lower(w.id) LIKE lower(%(id)s)
    AND (NOT %(public_only)s OR w.visibility = 50) AND (%(visibility)s = 0 OR w.visibility = %(visibility)s)
    AND (%(text)s = '' OR strpos(lower(w.id || ' ' || w.description), lower(%(text)s)) > 0)

-- name: rename
UPDATE workflows SET id = %(new_id)s, modified_at = clock_timestamp() WHERE bucket = %(bucket)s AND id = %(id)s

-- name: rename_base
-- Where it is what the app is to be indexed by.
UPDATE apps SET own_workflow_id = %(new_id)s WHERE first_bucket = %(bucket)s AND own_workflow_id = %(id)s

-- name: rename_wanted
-- Whoever looks at inputs for it has lost the turn: what they say is by the former id.
UPDATE reindexes SET own_workflow_id = %(new_id)s, lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND own_workflow_id = %(id)s

-- name: all_ids
SELECT id FROM workflows WHERE bucket = %(bucket)s

-- name: bases
-- The own workflows by which the app is indexed, and is to be indexed; nobody changes that until the transaction ends.
WITH app AS (SELECT own_workflow_id FROM apps WHERE first_bucket = %(bucket)s FOR UPDATE)
SELECT own_workflow_id FROM app
UNION
SELECT own_workflow_id FROM reindexes WHERE bucket = %(bucket)s

-- name: delete
DELETE FROM workflows WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: read_versions
-- Of the ids asked for (null: all), newest first; the page is appended.
SELECT id, workflow_id, nodes, description, license, metadata, visibility, is_deprecated, created_at, modified_at
FROM workflow_versions
WHERE bucket = %(bucket)s AND workflow_id = %(workflow_id)s AND (%(ids)s::text[] IS NULL OR id = ANY(%(ids)s))
ORDER BY created_at DESC, id DESC

-- name: version_ids
SELECT id FROM workflow_versions WHERE bucket = %(bucket)s AND workflow_id = %(workflow_id)s
ORDER BY created_at DESC, id DESC

-- name: lock_versions
-- All of a workflow, newest first, behind a lock of the workflow itself.
SELECT id, description, license, metadata, visibility, is_deprecated
FROM workflow_versions WHERE bucket = %(bucket)s AND workflow_id = %(workflow_id)s
ORDER BY created_at DESC, id DESC

-- name: update_version
UPDATE workflow_versions SET description = %(description)s, license = %(license)s, metadata = %(metadata)s,
    visibility = %(visibility)s, is_deprecated = %(is_deprecated)s, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND id = %(id)s AND workflow_id = %(workflow_id)s

-- name: delete_versions
DELETE FROM workflow_versions WHERE bucket = %(bucket)s AND workflow_id = %(workflow_id)s AND id = ANY(%(ids)s)
