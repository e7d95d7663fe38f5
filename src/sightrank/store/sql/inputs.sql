-- name: existing
-- Which of these ids and URLs the app already has.
SELECT id, NULL FROM inputs WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)
UNION ALL
SELECT NULL, url FROM inputs
WHERE bucket = %(bucket)s AND url <> '' AND sha256(replace(url, '\', '\\')::bytea) = ANY(%(url_hashes)s) AND url = ANY(%(urls)s)

-- name: insert
INSERT INTO inputs (bucket, id, created_at, modified_at, status, media, url, unique_url, blob, text_raw, add_job_id)
SELECT
    %(bucket)s, r.id, r.created_at, r.created_at, r.status, r.media, r.url, r.unique_url, r.blob, r.text_raw, r.add_job_id
FROM jsonb_to_recordset(%(rows)s) AS r (
    id text, created_at timestamptz, status int, media text, url text, unique_url boolean, blob text, text_raw text,
    add_job_id text
)
ON CONFLICT DO NOTHING
RETURNING id, number

-- name: insert_whole_areas
INSERT INTO areas (bucket, input_number, created_at)
SELECT i.bucket, i.number, i.created_at FROM inputs i WHERE i.bucket = %(bucket)s AND i.number = ANY(%(numbers)s)
RETURNING input_number, id

-- name: insert_regions
INSERT INTO areas (bucket, input_number, created_at, region_id, box_top, box_left, box_bottom, box_right)
SELECT %(bucket)s, r.input_number, r.created_at, r.region_id, r.box_top, r.box_left, r.box_bottom, r.box_right
FROM jsonb_to_recordset(%(rows)s) AS r (
    input_number bigint, created_at timestamptz, region_id text, box_top real, box_left real, box_bottom real, box_right real
)
RETURNING region_id, id

-- name: insert_annotations
INSERT INTO annotations (
    bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted, user_id, model_id,
    model_version_id, own_model, written_by, task_id, concept_ids, concept_values, metadata, latitude, longitude,
    annotation_info, data
)
SELECT
    %(bucket)s, r.input_number, r.id, r.area_id, r.created_at, r.created_at, r.status, r.input_level, r.trusted,
    r.user_id, r.model_id, r.model_version_id, r.own_model, r.written_by, r.task_id, r.concept_ids, r.concept_values,
    r.metadata, r.latitude, r.longitude, r.annotation_info, r.data
FROM jsonb_to_recordset(%(rows)s) AS r (
    input_number bigint, id text, area_id bigint, created_at timestamptz, status int, input_level boolean,
    trusted boolean, user_id text, model_id text, model_version_id text, own_model boolean, written_by text, task_id text,
    concept_ids text[], concept_values real[], metadata jsonb, latitude double precision, longitude double precision,
    annotation_info jsonb, data jsonb
)
ON CONFLICT DO NOTHING
RETURNING id, input_number

-- name: derive_labels
-- The labels of annotations that people made, from the annotations themselves. Their ids are unique within an input only,
-- so `numbers` and `ids` pair one to one.
INSERT INTO labels (bucket, concept_id, area_id, annotation_id, input_number, value, trusted, modified_at)
SELECT DISTINCT ON (c.concept_id, a.area_id, a.id)
    a.bucket, c.concept_id, a.area_id, a.id, a.input_number, c.value, a.trusted, a.modified_at
FROM unnest(%(numbers)s::bigint[], %(ids)s::text[]) AS written (input_number, id)
JOIN annotations a ON a.input_number = written.input_number AND a.id = written.id
CROSS JOIN LATERAL unnest(a.concept_ids, a.concept_values) WITH ORDINALITY AS c (concept_id, value, place)
WHERE a.bucket = %(bucket)s AND a.model_version_id = ''
ORDER BY c.concept_id, a.area_id, a.id, c.place DESC

-- name: delete_labels
DELETE FROM labels l USING unnest(%(numbers)s::bigint[], %(ids)s::text[]) AS written (input_number, id)
WHERE l.bucket = %(bucket)s AND l.input_number = written.input_number AND l.annotation_id = written.id

-- name: hold_app
SELECT 1 FROM app_buckets WHERE bucket = %(bucket)s FOR KEY SHARE

-- name: begin_intake
-- Holds the app, and lets `await_intakes` wait for the end of the transaction.
SELECT pg_advisory_xact_lock_shared(hashtextextended('intake', bucket)) FROM app_buckets
WHERE bucket = %(bucket)s FOR KEY SHARE

-- name: await_intakes
-- Waits until no transaction that inserts inputs of the app runs; those that come meanwhile wait until this one ends.
SELECT pg_advisory_xact_lock(hashtextextended('intake', %(bucket)s))

-- name: insert_dataset_inputs
INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)
SELECT %(bucket)s, r.dataset_id, r.input_number, r.created_at
FROM jsonb_to_recordset(%(rows)s) AS r (dataset_id text, input_number bigint, created_at timestamptz)
ON CONFLICT DO NOTHING

-- name: existing_datasets
-- Held, so that none goes before the inputs have joined it.
SELECT id FROM datasets WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY id FOR KEY SHARE

-- name: read
SELECT i.number, i.id, i.created_at, i.modified_at, i.status, i.status_details, i.media, i.url, i.blob, i.text_raw,
    i.width, i.height, i.format, i.color_mode, i.duration_ms, a.concept_ids, a.concept_values, a.metadata,
    a.latitude, a.longitude, a.data
FROM inputs i LEFT JOIN annotations a ON a.bucket = i.bucket AND a.input_number = i.number AND a.input_level
WHERE i.bucket = %(bucket)s AND i.id = ANY(%(ids)s)

-- name: list
-- Newest first; the page is appended.
SELECT i.number, i.id, i.created_at, i.modified_at, i.status, i.status_details, i.media, i.url, i.blob, i.text_raw,
    i.width, i.height, i.format, i.color_mode, i.duration_ms, a.concept_ids, a.concept_values, a.metadata,
    a.latitude, a.longitude, a.data
FROM inputs i LEFT JOIN annotations a ON a.bucket = i.bucket AND a.input_number = i.number AND a.input_level
WHERE i.bucket = %(bucket)s AND (%(status)s = 0 OR i.status = %(status)s)
    AND (%(ids)s::text[] IS NULL OR i.id = ANY(%(ids)s))
ORDER BY i.created_at DESC, i.id DESC

-- name: created
SELECT created_at FROM inputs WHERE bucket = %(bucket)s AND id = %(last_id)s

-- name: stream
-- Put in: what comes after the last input, and the order in which it is the last; the page is appended.
SELECT i.number, i.id, i.created_at, i.modified_at, i.status, i.status_details, i.media, i.url, i.blob, i.text_raw,
    i.width, i.height, i.format, i.color_mode, i.duration_ms, a.concept_ids, a.concept_values, a.metadata,
    a.latitude, a.longitude, a.data
FROM inputs i LEFT JOIN annotations a ON a.bucket = i.bucket AND a.input_number = i.number AND a.input_level
WHERE i.bucket = %(bucket)s AND {condition}
ORDER BY {order}

-- name: counts
SELECT
    count(*) FILTER (WHERE status = 30000),
    count(*) FILTER (WHERE status = 30001),
    count(*) FILTER (WHERE status = 30003),
    count(*) FILTER (WHERE status NOT IN (30000, 30001, 30003))
FROM inputs WHERE bucket = %(bucket)s

-- name: lock
SELECT number, status FROM inputs WHERE bucket = %(bucket)s AND number = ANY(%(numbers)s) ORDER BY number FOR UPDATE

-- name: touch
-- Moves the time of change on, also past that of a process whose clock is ahead.
UPDATE inputs SET modified_at = greatest(modified_at + interval '1 us', clock_timestamp())
WHERE bucket = %(bucket)s AND number = ANY(%(numbers)s)

-- name: lock_to_delete
-- The rows are locked in the order of their numbers, as every writer locks them.
SELECT number, blob FROM inputs WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY number FOR UPDATE

-- name: record_removals
INSERT INTO removals (bucket, version, area_id)
SELECT bucket, %(version)s, id FROM areas WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s)

-- name: forget_removals
DELETE FROM removals WHERE bucket = %(bucket)s AND version <= %(version)s

-- name: delete
DELETE FROM inputs WHERE bucket = %(bucket)s AND number = ANY(%(numbers)s)

-- name: blobs_in_use
SELECT DISTINCT blob FROM inputs WHERE bucket = %(bucket)s AND blob = ANY(%(blobs)s)
UNION
SELECT blob FROM dataset_exports WHERE bucket = %(bucket)s AND blob <> '' AND blob = ANY(%(blobs)s)

-- name: any_input
SELECT 1 FROM inputs WHERE bucket = %(bucket)s LIMIT 1

-- name: media_of
SELECT id, media, url, blob, text_raw FROM inputs WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: media
SELECT media, blob FROM inputs WHERE bucket = %(bucket)s AND id = %(id)s
