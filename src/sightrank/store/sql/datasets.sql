-- Datasets and the inputs in them. Writers lock in this order: the app, inputs by number, datasets by id, the version.

-- name: insert
-- In order of id, so that two calls cannot wait for each other; created a microsecond apart in the posted order.
INSERT INTO datasets (
    bucket, id, description, notes, metadata, visibility, image_url, annotation_filter_id, created_at, modified_at
)
SELECT %(bucket)s, r.id, r.description, r.notes, r.metadata, r.visibility, r.image_url, r.annotation_filter_id,
    t.now + r.place * interval '1 us', t.now + r.place * interval '1 us'
FROM jsonb_to_recordset(%(rows)s) AS r (
    place int, id text, description text, notes text, metadata jsonb, visibility int, image_url text,
    annotation_filter_id text
), (SELECT clock_timestamp() AS now) t
ORDER BY r.id
ON CONFLICT DO NOTHING
RETURNING id, description, notes, metadata, visibility, image_url, annotation_filter_id, created_at, modified_at

-- name: read
SELECT id, description, notes, metadata, visibility, image_url, annotation_filter_id, created_at, modified_at
FROM datasets
WHERE bucket = %(bucket)s AND id = %(id)s AND (NOT %(public_only)s OR visibility = 50)

-- name: list
-- The order and the page are appended. Every word must be somewhere in the texts of a dataset.
SELECT id, description, notes, metadata, visibility, image_url, annotation_filter_id, created_at, modified_at
FROM datasets
WHERE bucket = %(bucket)s AND (NOT %(public_only)s OR visibility = 50)
    AND (%(id)s = '' OR strpos(lower(id), lower(%(id)s)) > 0)
    AND NOT EXISTS (
        SELECT FROM unnest(%(words)s::text[]) AS word
        WHERE strpos(lower(id || ' ' || description || ' ' || notes), lower(word)) = 0
    )

-- name: lock_to_patch
SELECT id, description, notes, metadata, visibility, image_url, annotation_filter_id, created_at, modified_at
FROM datasets WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE

-- name: patch
UPDATE datasets d
SET description = r.description, notes = r.notes, metadata = r.metadata, visibility = r.visibility,
    image_url = r.image_url, annotation_filter_id = r.annotation_filter_id, modified_at = clock_timestamp()
FROM jsonb_to_recordset(%(rows)s) AS r (
    id text, description text, notes text, metadata jsonb, visibility int, image_url text, annotation_filter_id text
)
WHERE d.bucket = %(bucket)s AND d.id = r.id
RETURNING d.id, d.description, d.notes, d.metadata, d.visibility, d.image_url, d.annotation_filter_id, d.created_at,
    d.modified_at

-- name: annotation_filters
SELECT id FROM annotation_filters WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: lock_to_delete
SELECT id FROM datasets WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY id FOR UPDATE

-- name: delete
-- Memberships go with their datasets, the inputs stay.
DELETE FROM datasets WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: hold_dataset
-- A dataset that inputs join or leave cannot be deleted meanwhile.
SELECT 1 FROM datasets WHERE bucket = %(bucket)s AND id = %(dataset_id)s FOR KEY SHARE

-- name: hold_inputs
SELECT id, number FROM inputs WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY number FOR KEY SHARE

-- name: hold_found_inputs
-- Those that a search finds and that are not in the dataset yet; the search is put in. What it tells beside the numbers is
-- not worked out as long as it stands apart from the lock, which would ask for whole rows.
WITH found AS MATERIALIZED (SELECT f.number FROM ({found}) AS f (number, annotation_id))
SELECT i.number FROM found f JOIN inputs i ON i.bucket = {bucket} AND i.number = f.number
WHERE NOT EXISTS (
    SELECT FROM dataset_inputs m
    WHERE m.bucket = {bucket} AND m.dataset_id = {dataset_id} AND m.input_number = i.number
)
ORDER BY i.number FOR KEY SHARE OF i

-- name: join
INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at)
SELECT %(bucket)s, %(dataset_id)s, m.number, %(now)s::timestamptz + m.place * interval '1 us'
FROM unnest(%(numbers)s::bigint[]) WITH ORDINALITY AS m (number, place)
ORDER BY m.number
ON CONFLICT DO NOTHING

-- name: leave
-- How many left. That they were members is kept as long as a version of the dataset tells so.
WITH gone AS (
    DELETE FROM dataset_inputs
    WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND input_number = ANY(%(numbers)s)
    RETURNING input_number, created_at
), kept AS (
    INSERT INTO past_dataset_inputs (bucket, dataset_id, input_number, since, until)
    SELECT %(bucket)s, %(dataset_id)s, g.input_number, g.created_at,
        greatest(%(now)s, g.created_at + interval '1 us')
    FROM gone g
    WHERE EXISTS (
        SELECT FROM dataset_versions v
        WHERE v.bucket = %(bucket)s AND v.dataset_id = %(dataset_id)s AND v.as_of >= g.created_at
    )
)
SELECT count(*) FROM gone

-- name: members
-- Newest members first; the page is appended.
SELECT i.id, m.created_at
FROM dataset_inputs m JOIN inputs i ON i.bucket = m.bucket AND i.number = m.input_number
WHERE m.bucket = %(bucket)s AND i.bucket = %(bucket)s AND m.dataset_id = %(dataset_id)s
ORDER BY m.created_at DESC, m.input_number DESC

-- name: members_of
SELECT i.id, m.created_at
FROM inputs i JOIN dataset_inputs m ON m.bucket = i.bucket AND m.input_number = i.number
WHERE i.bucket = %(bucket)s AND m.bucket = %(bucket)s AND m.dataset_id = %(dataset_id)s AND i.id = ANY(%(ids)s)
