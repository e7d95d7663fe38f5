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
    greatest(clock_timestamp(), g.modified_at + interval '1 us'), g.status, g.input_level, g.trusted, g.user_id, g.model_id,
    g.model_version_id, g.task_id, g.concept_ids, g.concept_values, g.metadata, g.latitude, g.longitude, g.annotation_info,
    g.data, r.region_id, r.box_top, r.box_left, r.box_bottom, r.box_right
FROM gone g JOIN areas r ON r.bucket = g.bucket AND r.id = g.area_id
WHERE g.written_by <> ''

-- name: last_end
-- When the last of the earlier annotations of these ids ended.
SELECT max(until) FROM past_annotations
WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s) AND id = ANY(%(ids)s)

-- name: buckets
SELECT bucket FROM app_buckets ORDER BY bucket

-- name: forget
-- One portion. What a deletion of inputs has locked is left to it: waiting for each other could block both.
DELETE FROM past_annotations
WHERE bucket = %(bucket)s AND (input_number, id, until) IN (
    SELECT input_number, id, until FROM past_annotations
    WHERE bucket = %(bucket)s AND until < %(before)s
    ORDER BY until LIMIT 1000 FOR UPDATE SKIP LOCKED
)
