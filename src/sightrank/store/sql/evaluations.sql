-- How good model versions are: what the API reads and writes, and the queue of what is to be evaluated (migration 0009).

-- name: version
-- A version of an app's model; '' is the latest that is trained, else the latest.
SELECT v.id, v.status, v.status_details FROM model_versions v
WHERE v.bucket = %(bucket)s AND v.model_id = %(model_id)s AND (%(version_id)s = '' OR v.id = %(version_id)s)
ORDER BY v.status = 21100 DESC, v.created_at DESC, v.id DESC LIMIT 1

-- name: hold_version
SELECT FROM model_versions
WHERE bucket = %(bucket)s AND id = %(version_id)s AND model_id = %(model_id)s FOR KEY SHARE

-- name: waiting
-- How many wait in the app, and one that asks for the same of the same version.
SELECT count(*), max(id) FILTER (
    WHERE status = 21303 AND model_version_id = %(version_id)s AND request = %(request)s AND dataset_id = %(dataset_id)s
        AND dataset_version_id = %(dataset_version_id)s
)
FROM model_evaluations WHERE bucket = %(bucket)s AND status IN (21301, 21303)

-- name: insert
INSERT INTO model_evaluations (bucket, id, model_id, model_version_id, dataset_id, dataset_version_id, status, request)
VALUES (
    %(bucket)s, %(id)s, %(model_id)s, %(version_id)s, %(dataset_id)s, %(dataset_version_id)s, 21303, %(request)s
)
ON CONFLICT DO NOTHING

-- name: read
-- All evaluations, without an order: conditions, an order and a page are put in.
SELECT e.id, e.model_id, e.model_version_id, m.name, m.model_type_id, e.dataset_id, e.dataset_version_id, e.status, e.status_details, e.request,
    e.summary
FROM model_evaluations e
JOIN models m ON m.bucket = e.bucket AND m.id = e.model_id
JOIN model_versions v ON v.bucket = e.bucket AND v.id = e.model_version_id
WHERE e.bucket = {bucket} AND m.bucket = {bucket} AND v.bucket = {bucket} AND {chosen}
ORDER BY {sorting}

-- name: metrics
SELECT metrics FROM model_evaluations WHERE bucket = %(bucket)s AND id = %(id)s

-- name: latest
-- The evaluation of each of these versions that was asked for last.
SELECT DISTINCT ON (model_version_id) id FROM model_evaluations
WHERE bucket = %(bucket)s AND model_version_id = ANY(%(version_ids)s)
ORDER BY model_version_id, created_at DESC, id DESC

-- name: inputs
-- Inputs by number, with the columns of `read` in inputs.sql.
SELECT i.number, i.id, i.created_at, i.modified_at, i.status, i.status_details, i.media, i.url, i.blob, i.text_raw,
    i.width, i.height, i.format, i.color_mode, i.duration_ms, a.concept_ids, a.concept_values, a.metadata,
    a.latitude, a.longitude, a.data
FROM inputs i LEFT JOIN annotations a ON a.bucket = i.bucket AND a.input_number = i.number AND a.input_level
WHERE i.bucket = %(bucket)s AND i.number = ANY(%(numbers)s::bigint[])

-- name: parts
-- Those of these areas that are not whole inputs.
SELECT id, region_id, box_top, box_left, box_bottom, box_right, frame_index, frame_time_ms FROM areas
WHERE bucket = %(bucket)s AND id = ANY(%(area_ids)s::bigint[]) AND (region_id IS NOT NULL OR frame_index IS NOT NULL)

-- name: release_all
-- The embedded database has one server: what an earlier one worked on is nobody's.
UPDATE model_evaluations SET status = 21303, lease_owner = NULL, lease_until = NULL WHERE status = 21301

-- name: buckets_with_work
-- Apps, among those whose vectors are known here, in which one waits whose version is done with training; the longest
-- waiting first. Whoever finds that another process has taken it goes on to the next. An app has few that wait, most have none.
SELECT w.bucket, a.workflow_id
FROM model_evaluations w
JOIN model_versions v ON v.bucket = w.bucket AND v.id = w.model_version_id
JOIN apps a ON a.first_bucket = w.bucket
WHERE w.status IN (21301, 21303) AND (w.lease_until IS NULL OR w.lease_until < now())
    AND v.status NOT IN (21101, 21103) AND a.workflow_id = ANY(%(workflow_ids)s)
GROUP BY w.bucket, a.workflow_id ORDER BY min(w.created_at) LIMIT 16

-- name: claim
-- No lock outlives the statement: the lease is what holds the row.
UPDATE model_evaluations e
SET status = 21301, lease_owner = %(owner)s, lease_until = now() + %(lease_s)s * interval '1 second',
    attempts = e.attempts + 1, modified_at = clock_timestamp()
FROM model_versions v
WHERE e.bucket = %(bucket)s AND v.bucket = %(bucket)s AND v.id = e.model_version_id AND e.id = (
    SELECT w.id FROM model_evaluations w
    WHERE w.bucket = %(bucket)s AND w.status IN (21301, 21303) AND (w.lease_until IS NULL OR w.lease_until < now())
        AND (
            SELECT o.status FROM model_versions o WHERE o.bucket = %(bucket)s AND o.id = w.model_version_id
        ) NOT IN (21101, 21103)
    ORDER BY w.created_at, w.id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING e.id, e.model_version_id, e.dataset_id, e.dataset_version_id, e.attempts, v.status, v.status_details, v.created_at, v.concept_ids,
    v.training

-- name: renew
UPDATE model_evaluations SET lease_until = now() + %(lease_s)s * interval '1 second'
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s AND status = 21301

-- name: examples
SELECT examples FROM model_versions WHERE bucket = %(bucket)s AND id = %(version_id)s

-- name: finish
UPDATE model_evaluations
SET status = 21300, status_details = %(details)s, metrics = %(metrics)s, summary = %(summary)s,
    completed_at = clock_timestamp(), modified_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s AND status = 21301

-- name: fail
UPDATE model_evaluations
SET status = %(status)s, status_details = %(details)s, completed_at = clock_timestamp(), modified_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s AND status = 21301

-- name: put_off
-- Back into the queue; `blameless`: the attempt does not count.
UPDATE model_evaluations
SET status = 21303, lease_owner = NULL, lease_until = now() + %(pause_s)s * interval '1 second',
    attempts = attempts - CASE WHEN %(blameless)s THEN 1 ELSE 0 END, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s AND status = 21301
