-- Archives of dataset versions: what the API reads and writes, and the queue of those to be written (migration 0015).

-- name: hold_version
SELECT FROM dataset_versions
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(version_id)s FOR KEY SHARE

-- name: waiting
SELECT count(*) FROM dataset_exports WHERE bucket = %(bucket)s AND status IN (64201, 64203)

-- name: ask
-- Puts exports into the queue, those that are known to have failed once more; the others stay as they are. `ids` and `secrets`
-- are for new ones.
INSERT INTO dataset_exports (bucket, id, dataset_id, version_id, format, secret, status)
SELECT %(bucket)s, w.id, %(dataset_id)s, %(version_id)s, w.format, w.secret, 64201
FROM unnest(%(ids)s::text[], %(formats)s::int[], %(secrets)s::text[]) AS w (id, format, secret)
ORDER BY w.format
ON CONFLICT (bucket, dataset_id, version_id, format) DO UPDATE
SET status = 64201, status_details = '', told = false, progress = 0, attempts = 0, created_at = clock_timestamp()
WHERE dataset_exports.status IN (64202, 64204) AND dataset_exports.told

-- name: tell
UPDATE dataset_exports SET told = true
WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) AND status IN (64202, 64204) AND NOT told

-- name: read
-- The exports of these versions of a dataset.
SELECT version_id, format, id, secret, status, status_details, told, progress, size FROM dataset_exports
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND version_id = ANY(%(version_ids)s)

-- name: file
-- What a URL names, once it is there.
SELECT secret, blob FROM dataset_exports WHERE bucket = %(bucket)s AND id = %(id)s AND status = 64200

-- name: delete
-- Those of these versions of a dataset, null: of all of its versions; returns their files. The caller holds the dataset.
DELETE FROM dataset_exports
WHERE bucket = %(bucket)s AND dataset_id = ANY(%(dataset_ids)s)
    AND (%(version_ids)s::text[] IS NULL OR version_id = ANY(%(version_ids)s))
RETURNING blob

-- name: release_all
-- The embedded database has one server: what an earlier one worked on is nobody's.
UPDATE dataset_exports SET status = 64201, lease_owner = NULL, lease_until = NULL WHERE status = 64203

-- name: buckets_with_work
-- Apps in which one waits whose version is made, or was left by a process that died; the longest waiting first. Whoever finds
-- that another process has taken it goes on to the next. An app has few that wait, most have none.
SELECT w.bucket
FROM dataset_exports w
JOIN dataset_versions v ON v.bucket = w.bucket AND v.dataset_id = w.dataset_id AND v.id = w.version_id
WHERE w.status IN (64201, 64203) AND (w.lease_until IS NULL OR w.lease_until < now()) AND v.status <> 64005
GROUP BY w.bucket ORDER BY min(w.created_at) LIMIT 16

-- name: claim
-- No lock outlives the statement: the lease is what holds the row.
UPDATE dataset_exports e
SET status = 64203, progress = 0, attempts = e.attempts + 1, lease_owner = %(owner)s,
    lease_until = now() + %(lease_s)s * interval '1 second'
FROM apps p
WHERE e.bucket = %(bucket)s AND p.first_bucket = %(bucket)s AND e.id = (
    SELECT w.id FROM dataset_exports w
    WHERE w.bucket = %(bucket)s AND w.status IN (64201, 64203) AND (w.lease_until IS NULL OR w.lease_until < now())
        AND (
            SELECT v.status FROM dataset_versions v
            WHERE v.bucket = %(bucket)s AND v.dataset_id = w.dataset_id AND v.id = w.version_id
        ) <> 64005
    ORDER BY w.created_at, w.id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING e.id, e.dataset_id, e.version_id, e.format, e.attempts, p.user_id, p.id

-- name: renew
UPDATE dataset_exports SET progress = %(progress)s, lease_until = now() + %(lease_s)s * interval '1 second'
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s AND status = 64203

-- name: finish
UPDATE dataset_exports
SET status = 64200, progress = 1, blob = %(blob)s, size = %(size)s, lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s AND status = 64203

-- name: fail
UPDATE dataset_exports
SET status = %(status)s, status_details = %(details)s, lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s AND status = 64203

-- name: put_off
-- Back into the queue; `blameless`: the attempt does not count.
UPDATE dataset_exports
SET status = 64201, lease_owner = NULL, lease_until = now() + %(pause_s)s * interval '1 second',
    attempts = attempts - CASE WHEN %(blameless)s THEN 1 ELSE 0 END
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s AND status = 64203
