-- Versions of datasets: a dataset as of an instant. Whoever reads members or annotations of a version gives its `as_of`.

-- name: await_writers
-- Waits until nobody says something or changes who is in a dataset; those that come meanwhile wait until this one ends.
SELECT pg_advisory_xact_lock(hashtextextended('versions', %(bucket)s))

-- name: members
-- One portion of the members of a version, in the order in which they joined, after the one named; the page is appended.
SELECT i.number, i.id, m.joined_at
FROM (
    SELECT input_number, created_at AS joined_at FROM dataset_inputs
    WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND created_at <= %(as_of)s
        AND (created_at, input_number) > (%(after)s, %(after_number)s)
    UNION ALL
    SELECT input_number, since FROM past_dataset_inputs
    WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND since <= %(as_of)s AND until > %(as_of)s
        AND (since, input_number) > (%(after)s, %(after_number)s)
) m
JOIN inputs i ON i.bucket = %(bucket)s AND i.number = m.input_number
WHERE NOT %(ignore_empty)s OR EXISTS (
    SELECT FROM dataset_version_annotations a
    WHERE a.bucket = %(bucket)s AND a.dataset_id = %(dataset_id)s AND a.version_id = %(version_id)s
        AND a.input_number = i.number
)
ORDER BY m.joined_at, i.number

-- name: annotations
-- What people had said of these inputs, as it was then: the columns of api.records.AnnotationRecord.
SELECT a.input_number, i.id, a.id, a.area_id, a.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
    a.user_id, a.model_id, a.model_version_id, false, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
    a.longitude, a.annotation_info, a.data, a.box_top, a.box_left, a.box_bottom, a.box_right
FROM (
    SELECT a.input_number, a.id, a.area_id, r.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
        a.user_id, a.model_id, a.model_version_id, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
        a.longitude, a.annotation_info, a.data, r.box_top, r.box_left, r.box_bottom, r.box_right
    FROM annotations a JOIN areas r ON r.bucket = %(bucket)s AND r.id = a.area_id
    WHERE a.bucket = %(bucket)s AND a.input_number = ANY(%(numbers)s) AND a.model_version_id = ''
        AND a.modified_at <= %(as_of)s
    UNION ALL
    SELECT p.input_number, p.id, p.area_id, p.region_id, p.created_at, p.modified_at, p.status, p.input_level, p.trusted,
        p.user_id, p.model_id, p.model_version_id, p.task_id, p.concept_ids, p.concept_values, p.metadata, p.latitude,
        p.longitude, p.annotation_info, p.data, p.box_top, p.box_left, p.box_bottom, p.box_right
    FROM past_annotations p
    WHERE p.bucket = %(bucket)s AND p.input_number = ANY(%(numbers)s) AND p.modified_at <= %(as_of)s
        AND p.until > %(as_of)s
) a
JOIN inputs i ON i.bucket = %(bucket)s AND i.number = a.input_number
WHERE NOT %(filtered)s OR EXISTS (
    SELECT FROM dataset_version_annotations k
    WHERE k.bucket = %(bucket)s AND k.dataset_id = %(dataset_id)s AND k.version_id = %(version_id)s
        AND k.input_number = a.input_number AND k.annotation_id = a.id
)
ORDER BY a.input_number, a.created_at, a.id

-- name: read
SELECT id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at
FROM dataset_versions WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(id)s

-- name: as_of
SELECT as_of, filter IS NOT NULL, ignore_empty, status FROM dataset_versions
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(id)s

-- name: list
-- Newest first; the page is appended.
SELECT id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at
FROM dataset_versions WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s
ORDER BY created_at DESC, id DESC

-- name: between_versions
SELECT between_versions(%(bucket)s)

-- name: last_said
-- The last instant that anybody's words or memberships bear: a process whose clock is ahead may have written them.
SELECT greatest(
    b.versions_as_of,
    (SELECT modified_at FROM annotations
        WHERE bucket = %(bucket)s AND model_version_id = '' ORDER BY modified_at DESC LIMIT 1),
    (SELECT until FROM past_annotations WHERE bucket = %(bucket)s ORDER BY until DESC LIMIT 1),
    (SELECT created_at FROM dataset_inputs WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s
        ORDER BY created_at DESC LIMIT 1),
    (SELECT max(until) FROM past_dataset_inputs WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s)
)
FROM app_buckets b WHERE b.bucket = %(bucket)s

-- name: set_as_of
UPDATE app_buckets SET versions_as_of = %(as_of)s WHERE bucket = %(bucket)s

-- name: filters
SELECT id, message FROM annotation_filters WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: insert
INSERT INTO dataset_versions (
    bucket, dataset_id, id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, created_at, modified_at
)
SELECT %(bucket)s, d.id, %(id)s, %(as_of)s, %(description)s, %(metadata)s, %(visibility)s, %(filter_id)s, %(filter)s,
    %(ignore_empty)s, %(as_of)s, %(as_of)s
FROM datasets d WHERE d.bucket = %(bucket)s AND d.id = %(dataset_id)s
ON CONFLICT DO NOTHING
RETURNING id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at

-- name: lock_to_patch
SELECT id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at
FROM dataset_versions WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = ANY(%(ids)s)
ORDER BY id FOR UPDATE

-- name: patch
UPDATE dataset_versions
SET description = %(description)s, metadata = %(metadata)s, visibility = %(visibility)s, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(id)s
RETURNING id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at

-- name: delete
DELETE FROM dataset_versions WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = ANY(%(ids)s)

-- name: forget_memberships
-- Those that ended and that no version needs any more.
DELETE FROM past_dataset_inputs m
WHERE m.bucket = %(bucket)s AND m.dataset_id = %(dataset_id)s AND NOT EXISTS (
    SELECT FROM dataset_versions v
    WHERE v.bucket = %(bucket)s AND v.dataset_id = %(dataset_id)s AND v.as_of >= m.since AND v.as_of < m.until
)

-- name: groups
-- In the order in which they were counted; the page is appended.
SELECT parent_path, type, value, metrics FROM dataset_version_groups
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND version_id = %(version_id)s
    AND (cardinality(%(types)s::int[]) = 0 OR type = ANY(%(types)s::int[]))
    AND (cardinality(%(parent_paths)s::text[]) = 0 OR parent_path = ANY(%(parent_paths)s::text[]))
    AND (%(values)s::jsonb IS NULL OR %(values)s::jsonb @> jsonb_build_array(value))
ORDER BY place
