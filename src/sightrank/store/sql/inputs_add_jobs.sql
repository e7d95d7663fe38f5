-- Jobs of adding many inputs: their inputs are rows that name them, so progress is counted, never kept twice. In
-- `progress` the jobs to count for are put in for `{jobs}`.

-- name: extend
-- Makes the job or adds to it. Its row stays locked until the commit, so that a cancellation sees all of its inputs.
INSERT INTO inputs_add_jobs AS job (bucket, id, refused) VALUES (%(bucket)s, %(id)s, %(refused)s)
ON CONFLICT (bucket, id) DO UPDATE SET refused = job.refused + excluded.refused, modified_at = clock_timestamp()
RETURNING cancelled

-- name: progress
-- What was indexed once and is indexed anew, after an upgrade, is done as far as the job is concerned: it has a format.
SELECT job.id, job.cancelled, job.refused, job.created_at, greatest(job.modified_at, counted.modified_at),
    counted.pending, counted.in_progress, counted.done, counted.failed
FROM ({jobs}) job CROSS JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE i.status = 30001 AND i.format = '') AS pending,
        count(*) FILTER (WHERE i.status = 30003 AND i.format = '') AS in_progress,
        count(*) FILTER (WHERE i.status = 30000 OR i.status IN (30001, 30003) AND i.format <> '') AS done,
        count(*) FILTER (WHERE i.status NOT IN (30000, 30001, 30003)) AS failed,
        max(i.modified_at) AS modified_at
    FROM inputs i WHERE i.bucket = %(bucket)s AND i.add_job_id = job.id
) counted
ORDER BY job.created_at DESC, job.id DESC

-- name: one
SELECT * FROM inputs_add_jobs WHERE bucket = %(bucket)s AND id = %(id)s

-- name: newest
-- The page is appended.
SELECT * FROM inputs_add_jobs WHERE bucket = %(bucket)s ORDER BY created_at DESC, id DESC

-- name: lock
SELECT cancelled FROM inputs_add_jobs WHERE bucket = %(bucket)s AND id = %(id)s FOR UPDATE

-- name: cancel
-- A job that has nothing left to do stays as it is.
UPDATE inputs_add_jobs job SET cancelled = true, modified_at = clock_timestamp()
WHERE job.bucket = %(bucket)s AND job.id = %(id)s AND NOT job.cancelled AND EXISTS (
    SELECT FROM inputs i
    WHERE i.bucket = %(bucket)s AND i.add_job_id = job.id AND i.status IN (30001, 30003) AND i.format = ''
)

-- name: fail_waiting
-- What no worker holds. One that is being worked on is finished.
UPDATE inputs SET status = 30002, status_details = %(details)s, modified_at = clock_timestamp(), lease_owner = NULL,
    lease_until = NULL
WHERE bucket = %(bucket)s AND number IN (
    SELECT number FROM inputs
    WHERE bucket = %(bucket)s AND add_job_id = %(id)s AND status IN (30001, 30003) AND format = ''
        AND (lease_until IS NULL OR lease_until < now() OR lease_owner IS NULL)
    ORDER BY number FOR UPDATE
)
