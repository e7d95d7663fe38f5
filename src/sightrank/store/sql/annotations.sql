-- name: read
-- %(ids)s null: all annotations of the inputs.
SELECT a.input_number, i.id, a.id, a.area_id, r.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
    a.user_id, a.model_id, a.model_version_id, a.own_model, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
    a.longitude, a.annotation_info, a.data, r.box_top, r.box_left, r.box_bottom, r.box_right
FROM annotations a
JOIN inputs i ON i.bucket = a.bucket AND i.number = a.input_number
JOIN areas r ON r.bucket = a.bucket AND r.id = a.area_id
WHERE a.bucket = %(bucket)s AND i.bucket = %(bucket)s AND r.bucket = %(bucket)s
    AND i.id = ANY(%(input_ids)s) AND (%(ids)s::text[] IS NULL OR a.id = ANY(%(ids)s))
ORDER BY a.created_at, a.id

-- name: read_input_level
-- The annotations that say what these inputs' own data are.
SELECT a.input_number, i.id, a.id, a.area_id, r.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
    a.user_id, a.model_id, a.model_version_id, a.own_model, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
    a.longitude, a.annotation_info, a.data, r.box_top, r.box_left, r.box_bottom, r.box_right
FROM inputs i
JOIN annotations a ON a.bucket = i.bucket AND a.input_number = i.number AND a.input_level
JOIN areas r ON r.bucket = a.bucket AND r.id = a.area_id
WHERE i.bucket = %(bucket)s AND a.bucket = %(bucket)s AND r.bucket = %(bucket)s AND i.id = ANY(%(input_ids)s)

-- name: list
-- Newest first. The annotations are put in: those of the page (api/annotation_list.py).
SELECT a.input_number, i.id, a.id, a.area_id, r.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
    a.user_id, a.model_id, a.model_version_id, a.own_model, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
    a.longitude, a.annotation_info, a.data, r.box_top, r.box_left, r.box_bottom, r.box_right
FROM ({annotations}) a
JOIN inputs i ON i.bucket = a.bucket AND i.number = a.input_number
JOIN areas r ON r.bucket = a.bucket AND r.id = a.area_id
WHERE i.bucket = %(bucket)s AND r.bucket = %(bucket)s
ORDER BY a.created_at DESC, a.id DESC

-- name: workers
-- Each worker once (user, model, version, whether the model is the app's own); the page is appended. Of the annotations of each
-- only one is read, by the indexes of workers, which are spelled as their conditions are. A version of the app's own goes by
-- the id that its model has now.
WITH RECURSIVE people (id) AS (
    (
        SELECT user_id FROM annotations WHERE bucket = %(bucket)s AND model_version_id = '' AND user_id > ''
        ORDER BY user_id LIMIT 1
    )
    UNION ALL
    SELECT next.user_id FROM people p CROSS JOIN LATERAL (
        SELECT user_id FROM annotations WHERE bucket = %(bucket)s AND model_version_id = '' AND user_id > p.id
        ORDER BY user_id LIMIT 1
    ) next
), versions (id) AS (
    (
        SELECT model_version_id FROM annotations WHERE bucket = %(bucket)s AND model_version_id <> ''
        ORDER BY model_version_id LIMIT 1
    )
    UNION ALL
    SELECT next.model_version_id FROM versions v CROSS JOIN LATERAL (
        SELECT model_version_id FROM annotations
        WHERE bucket = %(bucket)s AND model_version_id <> '' AND model_version_id > v.id
        ORDER BY model_version_id LIMIT 1
    ) next
)
SELECT p.id AS user_id, '' AS model_id, '' AS version_id, false AS own_model
FROM people p
WHERE NOT %(trusted_only)s OR EXISTS (
    SELECT FROM annotations
    WHERE bucket = %(bucket)s AND model_version_id = '' AND user_id = p.id AND trusted
)
UNION ALL
SELECT '', coalesce(own.model_id, said.model_id), v.id, said.own_model
FROM versions v
CROSS JOIN LATERAL (
    SELECT model_id, own_model FROM annotations
    WHERE bucket = %(bucket)s AND model_version_id <> '' AND model_version_id = v.id
    ORDER BY created_at DESC, id DESC LIMIT 1
) said
LEFT JOIN model_versions own ON own.bucket = %(bucket)s AND own.id = v.id AND said.own_model
WHERE NOT %(trusted_only)s
ORDER BY version_id, user_id

-- name: known_users
SELECT id FROM users WHERE id = ANY(%(ids)s)

-- name: inputs_to_annotate
SELECT id, number, status, media, url, blob FROM inputs WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: whole_areas
SELECT input_number, id FROM areas
WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s) AND region_id IS NULL AND frame_index IS NULL

-- name: lock_inputs_by_id
SELECT number, status FROM inputs WHERE bucket = %(bucket)s AND id = ANY(%(input_ids)s) ORDER BY number FOR UPDATE

-- name: areas_of_regions
-- The geometry is as a person first posted it, else as a prediction says; null when it is nowhere but in the area.
SELECT r.region_id, r.id, r.input_number, r.box_top, r.box_left, r.box_bottom, r.box_right, (
    SELECT a.data #> '{regions,0,region_info}' FROM annotations a
    WHERE a.bucket = r.bucket AND a.area_id = r.id AND a.data #> '{regions,0,region_info}' IS NOT NULL
    ORDER BY a.model_version_id <> '', a.created_at, a.id LIMIT 1
)
FROM areas r WHERE r.bucket = %(bucket)s AND r.region_id = ANY(%(region_ids)s)

-- name: places_in_videos
-- Which of these areas are of videos, and of which of their frames.
SELECT r.id, r.frame_index, r.frame_time_ms, r.frame_number
FROM areas r JOIN inputs i ON i.bucket = r.bucket AND i.number = r.input_number
WHERE r.bucket = %(bucket)s AND i.bucket = %(bucket)s AND r.id = ANY(%(area_ids)s) AND i.media = 'video'

-- name: modified
SELECT input_number, id, modified_at FROM annotations
WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s) AND id = ANY(%(ids)s)

-- name: update
-- What a writer wrote is the person's from now on.
UPDATE annotations a SET modified_at = r.modified_at, status = r.status, trusted = r.trusted AND a.model_version_id = '',
    written_by = '', concept_ids = r.concept_ids,
    concept_values = r.concept_values, metadata = r.metadata, latitude = r.latitude, longitude = r.longitude,
    annotation_info = r.annotation_info, data = r.data, area_id = r.area_id
FROM jsonb_to_recordset(%(rows)s) AS r (
    input_number bigint, id text, area_id bigint, modified_at timestamptz, status int, trusted boolean, concept_ids text[],
    concept_values real[], metadata jsonb, latitude double precision, longitude double precision, annotation_info jsonb,
    data jsonb
)
WHERE a.bucket = %(bucket)s AND a.input_number = r.input_number AND a.id = r.id

-- name: to_delete
-- Of these inputs the annotations that `pairs` of [input id, id] name, or without pairs all that people made; never an
-- input-level one.
SELECT a.input_number, a.id, a.area_id, a.modified_at
FROM annotations a JOIN inputs i ON i.bucket = a.bucket AND i.number = a.input_number
WHERE a.bucket = %(bucket)s AND i.bucket = %(bucket)s AND NOT a.input_level AND i.id = ANY(%(input_ids)s)
    AND (%(pairs)s::jsonb IS NULL OR %(pairs)s::jsonb @> jsonb_build_array(jsonb_build_array(i.id, a.id)))
    AND (%(pairs)s::jsonb IS NOT NULL OR a.model_version_id = '')

-- name: delete
DELETE FROM annotations a USING unnest(%(numbers)s::bigint[], %(ids)s::text[]) AS gone (input_number, id)
WHERE a.bucket = %(bucket)s AND a.input_number = gone.input_number AND a.id = gone.id AND NOT a.input_level

-- name: deserted_regions
-- Regions that no annotation of a person speaks of any more, but those that a detector found.
SELECT r.id FROM areas r
WHERE r.bucket = %(bucket)s AND r.id = ANY(%(area_ids)s) AND r.region_id IS NOT NULL AND r.model_version_id = ''
    AND NOT EXISTS (
        SELECT FROM annotations a
        WHERE a.bucket = r.bucket AND a.area_id = r.id AND a.model_version_id = '' AND a.written_by = ''
    )

-- name: remove_areas
WITH gone AS (DELETE FROM areas WHERE bucket = %(bucket)s AND id = ANY(%(area_ids)s) RETURNING id)
INSERT INTO removals (bucket, version, area_id) SELECT %(bucket)s, %(version)s, id FROM gone
