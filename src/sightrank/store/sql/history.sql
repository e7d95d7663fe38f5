-- What people's annotations said before they were changed or deleted.

-- name: remember
-- Keeps these annotations as they are now; each version ends where the next begins. The caller has locked their inputs.
INSERT INTO past_annotations (
    bucket, input_number, id, area_id, created_at, modified_at, until, status, input_level, trusted, user_id, model_id,
    model_version_id, task_id, concept_ids, concept_values, metadata, latitude, longitude, annotation_info, data, region_id,
    box_top, box_left, box_bottom, box_right
)
SELECT
    a.bucket, a.input_number, a.id, a.area_id, a.created_at, a.modified_at, e.until, a.status, a.input_level, a.trusted,
    a.user_id, a.model_id, a.model_version_id, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
    a.longitude, a.annotation_info, a.data, r.region_id, r.box_top, r.box_left, r.box_bottom, r.box_right
FROM unnest(%(numbers)s::bigint[], %(ids)s::text[], %(untils)s::timestamptz[]) AS e (input_number, id, until)
JOIN annotations a ON a.input_number = e.input_number AND a.id = e.id
JOIN areas r ON r.bucket = a.bucket AND r.id = a.area_id
WHERE a.bucket = %(bucket)s AND r.bucket = %(bucket)s AND a.model_version_id = ''

-- name: remember_written
-- Of annotations that are `gone`, a statement that deletes and returns them, those that writers wrote.
WITH gone AS ({gone})
INSERT INTO past_annotations (
    bucket, input_number, id, area_id, created_at, modified_at, until, status, input_level, trusted, user_id, model_id,
    model_version_id, task_id, concept_ids, concept_values, metadata, latitude, longitude, annotation_info, data, region_id,
    box_top, box_left, box_bottom, box_right
)
SELECT
    g.bucket, g.input_number, g.id, g.area_id, g.created_at, g.modified_at,
    greatest(clock_timestamp(), g.modified_at + interval '1 us', v.versions_as_of + interval '1 us'), g.status, g.input_level, g.trusted, g.user_id, g.model_id,
    g.model_version_id, g.task_id, g.concept_ids, g.concept_values, g.metadata, g.latitude, g.longitude, g.annotation_info,
    g.data, r.region_id, r.box_top, r.box_left, r.box_bottom, r.box_right
FROM gone g
JOIN areas r ON r.bucket = g.bucket AND r.id = g.area_id
JOIN app_buckets v ON v.bucket = g.bucket
WHERE g.written_by <> ''

-- name: last_end
-- When the last of the earlier annotations of these ids ended.
SELECT max(until) FROM past_annotations
WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s) AND id = ANY(%(ids)s)

-- name: buckets
SELECT bucket FROM app_buckets ORDER BY bucket

-- name: forget
-- One portion, of what comes after the last one's: how many it looked at and how many went, and the last. What a version of a
-- dataset tells stays. What a deletion of inputs has locked is left to it: waiting for each other could block both.
WITH portion AS MATERIALIZED (
    SELECT until, input_number, id, modified_at FROM past_annotations
    WHERE bucket = %(bucket)s AND until < %(before)s
        AND (until, input_number, id) > (%(after)s, %(after_number)s, %(after_id)s)
    ORDER BY until, input_number, id LIMIT 1000 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM past_annotations a USING portion p
    WHERE a.bucket = %(bucket)s AND a.input_number = p.input_number AND a.id = p.id AND a.until = p.until
        AND NOT EXISTS (
            SELECT FROM dataset_versions v
            WHERE v.bucket = %(bucket)s AND v.as_of >= p.modified_at AND v.as_of < p.until AND (
                EXISTS (
                    SELECT FROM dataset_inputs m
                    WHERE m.bucket = %(bucket)s AND m.dataset_id = v.dataset_id AND m.input_number = p.input_number
                        AND m.created_at <= v.as_of
                ) OR EXISTS (
                    SELECT FROM past_dataset_inputs m
                    WHERE m.bucket = %(bucket)s AND m.dataset_id = v.dataset_id AND m.input_number = p.input_number
                        AND m.since <= v.as_of AND m.until > v.as_of
                )
            )
        )
    RETURNING a.id
)
SELECT (SELECT count(*) FROM portion), (SELECT count(*) FROM gone), p.until, p.input_number, p.id
FROM portion p ORDER BY p.until DESC, p.input_number DESC, p.id DESC LIMIT 1
