-- name: buckets_with_work
-- Apps in which an input waits, or was left by a worker that died; the longest waiting first, but those that were served
-- already after the others, in the order in which they were.
-- One look into the index for each app, however long its queue. Suspect inputs are claimed apart from the others, and videos
-- apart from the rest. An app that is about to get another workflow waits for it, and one whose workflow cannot run here
-- for that.
SELECT a.first_bucket, a.workflow_id, a.own_workflow_id, a.sample_ms
FROM apps a CROSS JOIN LATERAL (
    SELECT i.created_at FROM inputs i
    WHERE i.bucket = a.first_bucket AND i.status IN (30001, 30003) AND (i.lease_until IS NULL OR i.lease_until < now())
        AND (i.media = 'video') = %(video)s AND (i.attempts >= %(suspect_from)s) = %(suspect)s
    ORDER BY i.created_at LIMIT 1
) first
WHERE a.workflow_id = ANY(%(workflow_ids)s)
    AND NOT EXISTS (SELECT FROM reindexes r WHERE r.bucket = a.first_bucket AND r.state = 'switching')
ORDER BY array_position(%(served)s::bigint[], a.first_bucket) NULLS FIRST, first.created_at
LIMIT %(limit)s

-- name: claim
-- Takes inputs that wait, or whose worker died. No lock outlives the statement: the lease is what holds them.
UPDATE inputs SET status = 30003, lease_owner = %(owner)s, lease_until = now() + %(lease_s)s * interval '1 second',
    attempts = attempts + 1, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND number = ANY (ARRAY (
    SELECT number FROM inputs
    WHERE bucket = %(bucket)s AND status IN (30001, 30003) AND (lease_until IS NULL OR lease_until < now())
        AND (media = 'video') = %(video)s AND (attempts >= %(suspect_from)s) = %(suspect)s
    ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
))
RETURNING number, id, media, created_at, url, blob, attempts, sample_ms

-- name: renew
-- Whoever has locked a row (a commit of this very worker, mostly) is not waited for: the next renewal comes in time, and
-- locks taken out of order could block each other.
UPDATE inputs SET lease_until = now() + %(lease_s)s * interval '1 second'
WHERE bucket = %(bucket)s AND number IN (
    SELECT number FROM inputs
    WHERE bucket = %(bucket)s AND number = ANY(%(numbers)s) AND status = 30003 AND lease_owner = %(owner)s
    FOR UPDATE SKIP LOCKED
)

-- name: release_all
-- Only for a server that is alone on its database: whatever was leased belonged to a process that is gone.
UPDATE inputs SET lease_until = NULL, lease_owner = NULL WHERE status = 30003

-- name: areas
-- What is to be looked at: the whole of it, frames and people's regions. A region that a detector found is one of theirs once
-- they have annotated it; the others are found anew.
SELECT input_number, id, created_at, region_id, box_top, box_left, box_bottom, box_right, frame_index,
    frame_time_ms, frame_number
FROM areas r WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s) AND (model_version_id = '' OR EXISTS (
    SELECT FROM annotations a
    WHERE a.bucket = r.bucket AND a.area_id = r.id AND a.model_version_id = '' AND a.written_by = ''
))
ORDER BY input_number, region_id IS NOT NULL OR frame_index IS NOT NULL, id

-- name: former_regions
SELECT id FROM areas r WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s) AND model_version_id <> ''
    AND NOT EXISTS (
        SELECT FROM annotations a
        WHERE a.bucket = r.bucket AND a.area_id = r.id AND a.model_version_id = '' AND a.written_by = ''
    )

-- name: forget_predictions
-- Of inputs that are looked at again. What people said stays; so does what writers wrote where there is `trouble`, because then
-- they say nothing new, but not on `former` areas, which go.
DELETE FROM annotations
WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s)
    AND (model_version_id <> '' OR (written_by <> '' AND (
        NOT input_number = ANY(%(troubled)s) OR area_id = ANY(%(former)s)
    )))
RETURNING *

-- name: said_by_people
-- The concepts of which people have said something, by area; what writers wrote is none of it.
SELECT DISTINCT l.area_id, l.concept_id
FROM annotations a
JOIN labels l ON l.bucket = a.bucket AND l.input_number = a.input_number AND l.annotation_id = a.id
WHERE a.bucket = %(bucket)s AND l.bucket = %(bucket)s AND a.input_number = ANY(%(numbers)s) AND a.written_by = ''

-- name: insert_found_regions
INSERT INTO areas (
    bucket, input_number, created_at, region_id, box_top, box_left, box_bottom, box_right, model_version_id
)
SELECT %(bucket)s, r.input_number, r.created_at, r.region_id, r.box_top, r.box_left, r.box_bottom, r.box_right,
    r.model_version_id
FROM jsonb_to_recordset(%(rows)s) AS r (
    input_number bigint, created_at timestamptz, region_id text, box_top real, box_left real, box_bottom real, box_right real,
    model_version_id text
)
RETURNING region_id, id

-- name: insert_frames
INSERT INTO areas (bucket, input_number, created_at, frame_index, frame_time_ms, frame_number)
SELECT %(bucket)s, r.input_number, r.created_at, r.frame_index, r.frame_time_ms, r.frame_number
FROM jsonb_to_recordset(%(rows)s) AS r (
    input_number bigint, created_at timestamptz, frame_index int, frame_time_ms bigint, frame_number int
)
RETURNING input_number, frame_index, id

-- name: lock_leased
SELECT number FROM inputs
WHERE bucket = %(bucket)s AND number = ANY(%(numbers)s) AND status = 30003 AND lease_owner = %(owner)s
ORDER BY number FOR UPDATE

-- name: finish
UPDATE inputs i SET status = 30000, status_details = r.details, blob = r.blob, width = r.width, height = r.height,
    format = r.format, color_mode = r.color_mode, duration_ms = r.duration_ms, sample_ms = greatest(i.sample_ms, r.sample_ms),
    modified_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL
FROM jsonb_to_recordset(%(rows)s) AS r (
    number bigint, blob text, width int, height int, format text, color_mode text, duration_ms int, sample_ms int, details text
)
WHERE i.bucket = %(bucket)s AND i.number = r.number

-- name: hand_back
UPDATE inputs SET lease_owner = NULL, lease_until = NULL, attempts = attempts - 1
WHERE bucket = %(bucket)s AND number = ANY(%(numbers)s) AND status = 30003 AND lease_owner = %(owner)s

-- name: hand_back_all
-- Whatever a worker that stops still holds.
UPDATE inputs SET lease_owner = NULL, lease_until = NULL, attempts = attempts - 1
WHERE (bucket, number) IN (
    SELECT bucket, number FROM inputs WHERE status = 30003 AND lease_owner = %(owner)s ORDER BY bucket, number FOR UPDATE
)

-- name: put_off
UPDATE inputs SET lease_owner = NULL, attempts = attempts - 1
WHERE bucket = %(bucket)s AND number = %(number)s AND status = 30003 AND lease_owner = %(owner)s

-- name: fail
UPDATE inputs SET status = %(status)s, status_details = %(details)s, modified_at = clock_timestamp(),
    lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND number = %(number)s AND status = 30003 AND lease_owner = %(owner)s

-- name: app_of_bucket
SELECT user_id, id FROM apps WHERE first_bucket = %(bucket)s

-- name: language
SELECT default_language FROM apps WHERE first_bucket = %(bucket)s

-- name: blob_of_input
SELECT blob, media FROM inputs WHERE bucket = %(bucket)s AND id = %(id)s

-- name: lock_requeue
-- Whoever comes second finds done what the first has done; else it could send back what was looked at meanwhile.
SELECT pg_advisory_xact_lock(hashtext('sightrank requeue'))

-- name: buckets_to_requeue
-- Apps whose first indexed image or video has no vector in the table: a look at one input of each app. Inputs are looked at
-- anew in the order in which they came, so new ones that a worker was quick with do not hide the old ones.
SELECT a.first_bucket
FROM apps a CROSS JOIN LATERAL (
    SELECT i.number FROM inputs i
    WHERE i.bucket = a.first_bucket AND i.status = 30000 AND i.media IN ('image', 'video')
    ORDER BY i.created_at, i.id LIMIT 1
) first
WHERE a.workflow_id = %(workflow_id)s
    AND NOT EXISTS (SELECT FROM {vectors} v WHERE v.bucket = a.first_bucket AND v.input_number = first.number)
ORDER BY a.first_bucket

-- name: requeue_indexed
UPDATE inputs i SET status = 30001, attempts = 0, modified_at = clock_timestamp()
WHERE i.bucket = ANY(%(buckets)s) AND i.status = 30000 AND i.media IN ('image', 'video')
    AND NOT EXISTS (SELECT FROM {vectors} v WHERE v.bucket = i.bucket AND v.input_number = i.number)

-- name: raise_versions
-- What a filter leaves among the indexed inputs of these apps has changed.
UPDATE app_buckets SET version = version + 1 WHERE bucket = ANY(%(buckets)s)

-- name: delete_predictions_of_other_versions
DELETE FROM annotations
WHERE bucket = ANY(%(buckets)s) AND model_version_id <> '' AND NOT model_version_id = ANY(%(version_ids)s)
