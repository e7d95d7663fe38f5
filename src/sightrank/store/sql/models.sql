-- name: find
-- Models, each in the version asked for ('': the latest that is trained, else the latest).
SELECT asked.model_id, asked.version_id, m.name, m.model_type_id, coalesce(v.id, ''), coalesce(v.created_at, m.created_at),
    coalesce(v.status, 21102), coalesce(v.concept_ids, m.concept_ids), coalesce(v.params, '{}'), m.visibility
FROM unnest(%(model_ids)s::text[], %(version_ids)s::text[]) AS asked (model_id, version_id)
JOIN models m ON m.bucket = %(bucket)s AND m.id = asked.model_id
LEFT JOIN LATERAL (
    SELECT * FROM model_versions v
    WHERE v.bucket = m.bucket AND v.model_id = m.id AND (asked.version_id = '' OR v.id = asked.version_id)
    ORDER BY v.status = 21100 DESC, v.created_at DESC, v.id DESC LIMIT 1
) v ON true
WHERE asked.version_id = '' OR v.id IS NOT NULL

-- What the statements below read of a model and of a version; see api/model_records.py. The version shown beside a model is
-- the one asked for, else the latest, of the trained ones where `trained_first`.

-- name: read
SELECT a.user_id, a.id, m.id, m.name, m.model_type_id, m.description, m.notes, m.metadata, m.toolkits, m.use_cases,
    m.languages, m.check_consents, m.image_url, m.task, m.visibility, m.concept_ids, m.output_info, m.created_at,
    m.modified_at, (SELECT count(*) FROM model_versions n WHERE n.bucket = m.bucket AND n.model_id = m.id),
    v.id, v.created_at, v.modified_at, v.completed_at, v.status, v.status_details, v.message, v.concept_ids, v.params,
    v.total_input_count, v.progress
FROM models m JOIN apps a ON a.first_bucket = m.bucket
LEFT JOIN LATERAL (
    SELECT * FROM model_versions w
    WHERE w.bucket = m.bucket AND w.model_id = m.id AND (%(version_id)s = '' OR w.id = %(version_id)s)
    ORDER BY %(trained_first)s AND w.status = 21100 DESC, w.created_at DESC, w.id DESC LIMIT 1
) v ON true
WHERE m.bucket = %(bucket)s AND m.id = ANY(%(ids)s) AND (%(version_id)s = '' OR v.id IS NOT NULL)
    AND (NOT %(public_only)s OR m.visibility = 50)

-- name: list
-- Of one app, or of all apps of a user. The order and the page are appended. Every word must be in one of the texts.
SELECT a.user_id, a.id, m.id, m.name, m.model_type_id, m.description, m.notes, m.metadata, m.toolkits, m.use_cases,
    m.languages, m.check_consents, m.image_url, m.task, m.visibility, m.concept_ids, m.output_info, m.created_at,
    m.modified_at, (SELECT count(*) FROM model_versions n WHERE n.bucket = m.bucket AND n.model_id = m.id),
    v.id, v.created_at, v.modified_at, v.completed_at, v.status, v.status_details, v.message, v.concept_ids, v.params,
    v.total_input_count, v.progress
FROM apps a JOIN models m ON m.bucket = a.first_bucket
LEFT JOIN LATERAL (
    SELECT * FROM model_versions w
    WHERE w.bucket = m.bucket AND w.model_id = m.id AND (NOT %(trained_only)s OR w.status = 21100)
    ORDER BY w.created_at DESC, w.id DESC LIMIT 1
) v ON true
WHERE a.user_id = %(user_id)s AND (%(app_id)s = '' OR a.id = %(app_id)s)
    AND (NOT %(public_only)s OR (m.visibility = 50 AND a.visibility = 50)) AND (NOT %(trained_only)s OR v.id IS NOT NULL)
    AND m.model_type_id = ANY(%(type_ids)s)
    AND (%(visibility)s = 0 OR m.visibility = %(visibility)s)
    AND lower(m.name) LIKE %(name)s
    AND m.toolkits @> %(toolkits)s AND m.use_cases @> %(use_cases)s AND m.languages @> %(languages)s
    AND (%(version_ids)s::text[] = '{}' OR EXISTS (
        SELECT FROM model_versions x
        WHERE x.bucket = m.bucket AND x.model_id = m.id AND x.id = ANY(%(version_ids)s::text[])
    ))
    AND NOT EXISTS (
        SELECT FROM unnest(%(words)s::text[]) AS word
        WHERE strpos(lower(m.id || ' ' || m.name || ' ' || m.description || ' ' || m.notes), lower(word)) = 0
    )

-- name: versions
-- The order and the page are appended.
SELECT v.id, v.created_at, v.modified_at, v.completed_at, v.status, v.status_details, v.message, v.concept_ids, v.params,
    v.total_input_count, v.progress
FROM model_versions v
WHERE v.bucket = %(bucket)s AND v.model_id = %(model_id)s AND (NOT %(trained_only)s OR v.status = 21100)
    AND (%(concept_ids)s::text[] = '{}' OR v.concept_ids && %(concept_ids)s::text[])

-- name: version
SELECT v.id, v.created_at, v.modified_at, v.completed_at, v.status, v.status_details, v.message, v.concept_ids, v.params,
    v.total_input_count, v.progress
FROM model_versions v
WHERE v.bucket = %(bucket)s AND v.model_id = %(model_id)s AND v.id = %(id)s

-- name: insert
INSERT INTO models (
    bucket, id, name, model_type_id, description, notes, metadata, toolkits, use_cases, languages, check_consents, image_url,
    task, visibility, concept_ids, output_info, created_at, modified_at
)
VALUES (
    %(bucket)s, %(id)s, %(name)s, %(model_type_id)s, %(description)s, %(notes)s, %(metadata)s::jsonb, %(toolkits)s,
    %(use_cases)s, %(languages)s, %(check_consents)s, %(image_url)s, %(task)s, %(visibility)s, %(concept_ids)s,
    %(output_info)s, %(now)s, %(now)s
)
ON CONFLICT DO NOTHING

-- name: insert_version
INSERT INTO model_versions (
    bucket, id, model_id, created_at, modified_at, completed_at, status, message, concept_ids, params, training
)
VALUES (
    %(bucket)s, %(id)s, %(model_id)s, %(now)s::timestamptz, %(now)s, CASE WHEN %(status)s = 21100 THEN %(now)s END, %(status)s,
    %(message)s, %(concept_ids)s, %(params)s::jsonb, %(training)s::jsonb
)
ON CONFLICT DO NOTHING

-- name: lock
SELECT m.id, m.name, m.model_type_id, m.description, m.notes, m.metadata, m.toolkits, m.use_cases, m.languages,
    m.check_consents, m.image_url, m.task, m.visibility, m.concept_ids, m.output_info
FROM models m WHERE m.bucket = %(bucket)s AND m.id = ANY(%(ids)s) ORDER BY m.id FOR NO KEY UPDATE

-- name: update
UPDATE models SET name = %(name)s, description = %(description)s, notes = %(notes)s, metadata = %(metadata)s::jsonb,
    toolkits = %(toolkits)s, use_cases = %(use_cases)s, languages = %(languages)s, check_consents = %(check_consents)s,
    image_url = %(image_url)s, task = %(task)s, visibility = %(visibility)s, concept_ids = %(concept_ids)s,
    output_info = %(output_info)s, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND id = %(id)s

-- name: lock_tags
SELECT {column} FROM models WHERE bucket = %(bucket)s AND id = %(id)s FOR NO KEY UPDATE

-- name: update_tags
UPDATE models SET {column} = %(tags)s, modified_at = clock_timestamp() WHERE bucket = %(bucket)s AND id = %(id)s

-- name: touch
UPDATE models SET modified_at = clock_timestamp() WHERE bucket = %(bucket)s AND id = %(model_id)s

-- name: lock_to_delete
SELECT id FROM models WHERE bucket = %(bucket)s AND (%(all)s OR id = ANY(%(ids)s)) ORDER BY id FOR UPDATE

-- name: delete
-- Versions, fits and evaluations go with their model.
DELETE FROM models WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: lock_versions
SELECT v.id, v.message FROM model_versions v
WHERE v.bucket = %(bucket)s AND v.model_id = %(model_id)s AND v.id = ANY(%(ids)s) ORDER BY v.id FOR NO KEY UPDATE

-- name: update_version
UPDATE model_versions SET message = %(message)s, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND id = %(id)s

-- name: delete_version
DELETE FROM model_versions WHERE bucket = %(bucket)s AND model_id = %(model_id)s AND id = %(id)s

-- name: concepts_of_app
SELECT id FROM concepts WHERE bucket = %(bucket)s ORDER BY created_at, id LIMIT %(limit)s

-- name: waiting
-- How many versions of the app are yet to be trained.
SELECT count(*) FROM model_versions WHERE bucket = %(bucket)s AND status IN (21101, 21103)

-- name: dataset
SELECT FROM datasets WHERE bucket = %(bucket)s AND id = %(dataset_id)s

-- name: dataset_version
SELECT FROM dataset_versions WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(version_id)s

-- name: concepts
-- Concepts of a model in the order it has them. The page is appended.
SELECT c.id, c.name, c.definition, c.created_at
FROM unnest(%(concept_ids)s::text[]) WITH ORDINALITY AS o (id, place)
JOIN concepts c ON c.bucket = %(bucket)s AND c.id = o.id
WHERE strpos(lower(c.id || ' ' || c.name), lower(%(text)s)) > 0
ORDER BY o.place

-- name: inputs
-- Inputs with a trusted label of one of these concepts, newest first. The page is appended.
SELECT i.id FROM inputs i
WHERE i.bucket = %(bucket)s AND i.number IN (
    SELECT l.input_number FROM labels l
    WHERE l.bucket = %(bucket)s AND l.concept_id = ANY(%(concept_ids)s::text[]) AND l.trusted
)
ORDER BY i.created_at DESC, i.id DESC

-- name: count_inputs
SELECT count(DISTINCT l.input_number) FROM labels l
WHERE l.bucket = %(bucket)s AND l.concept_id = ANY(%(concept_ids)s::text[]) AND l.trusted
