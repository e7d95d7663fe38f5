-- Model versions that wait to be trained, and trained ones that lack a fit for the vectors their app has now. Rows are locked
-- in the order app_buckets (shared), models, model_versions, app_buckets (its version).

-- name: buckets_with_work
-- Apps in which a version waits, or was left by a process that died; the longest waiting first. Whoever finds that another
-- process has taken it goes on to the next. An app has few that wait, most have none.
SELECT w.bucket, a.workflow_id
FROM model_versions w JOIN apps a ON a.first_bucket = w.bucket
WHERE w.status IN (21101, 21103) AND (w.lease_until IS NULL OR w.lease_until < now())
    AND a.workflow_id = ANY(%(workflow_ids)s)
GROUP BY w.bucket, a.workflow_id ORDER BY min(w.created_at) LIMIT 16

-- name: claim
-- No lock outlives the statement: the lease is what holds the row.
UPDATE model_versions SET status = 21101, lease_owner = %(owner)s,
    lease_until = now() + %(lease_s)s * interval '1 second', attempts = attempts + 1, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND id = (
    SELECT id FROM model_versions
    WHERE bucket = %(bucket)s AND status IN (21101, 21103) AND (lease_until IS NULL OR lease_until < now())
    ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id, model_id, concept_ids, training, attempts

-- name: spaces_in_change
-- Apps that are about to change over, and to which vectors: hardly ever any.
SELECT r.bucket, r.embedder_id FROM reindexes r WHERE r.state = 'switching'

-- name: spaces
-- And those that all the others have.
SELECT a.first_bucket AS bucket, t.embedder_id
FROM apps a JOIN unnest(%(workflow_ids)s::text[], %(embedder_ids)s::int[]) AS t (workflow_id, embedder_id)
    ON t.workflow_id = a.workflow_id
UNION
SELECT r.bucket, r.embedder_id FROM reindexes r WHERE r.state = 'switching'

-- name: buckets_with_unfitted
-- Apps in which a trained version has no fit for the embedder of the app, `spaces` being one of the statements above. Trained
-- versions and fits are compared by their indexes alone, and only the rows of versions that lack one are read: at 120,000
-- versions in 2,000 apps, by looking at each row and for its fit, this took five times as long.
WITH lacking AS MATERIALIZED (
    SELECT b.bucket, b.embedder_id, w.id
    FROM ({spaces}) b JOIN model_versions w ON w.bucket = b.bucket
    WHERE w.examples IS NOT NULL AND NOT EXISTS (
        SELECT FROM model_fits f
        WHERE f.bucket = w.bucket AND f.model_version_id = w.id AND f.embedder_id = b.embedder_id
    )
)
SELECT l.bucket, e.id, e.dims
FROM lacking l
JOIN embedders e ON e.id = l.embedder_id
JOIN model_versions w ON w.bucket = l.bucket AND w.id = l.id
WHERE w.attempts < %(attempts)s AND (w.lease_until IS NULL OR w.lease_until < now())
GROUP BY l.bucket, e.id, e.dims ORDER BY max(w.completed_at) DESC LIMIT 16

-- name: claim_unfitted
UPDATE model_versions SET lease_owner = %(owner)s, lease_until = now() + %(lease_s)s * interval '1 second',
    attempts = attempts + 1
WHERE bucket = %(bucket)s AND id = (
    SELECT w.id FROM model_versions w
    WHERE w.bucket = %(bucket)s AND w.examples IS NOT NULL AND w.attempts < %(attempts)s
        AND (w.lease_until IS NULL OR w.lease_until < now())
        AND NOT EXISTS (
            SELECT FROM model_fits f
            WHERE f.bucket = %(bucket)s AND f.model_version_id = w.id AND f.embedder_id = %(embedder_id)s
        )
    ORDER BY w.completed_at DESC LIMIT 1 FOR UPDATE OF w SKIP LOCKED
)
RETURNING id, model_id, concept_ids, training, attempts, examples

-- name: any_unfitted
SELECT EXISTS (
    SELECT FROM model_versions v
    WHERE v.bucket = %(bucket)s AND v.examples IS NOT NULL AND v.attempts < %(attempts)s AND NOT EXISTS (
        SELECT FROM model_fits f
        WHERE f.bucket = v.bucket AND f.model_version_id = v.id AND f.embedder_id = %(embedder_id)s
    )
)

-- name: keep
-- Nothing is touched where somebody has deleted the version, or another process has it.
UPDATE model_versions SET lease_until = now() + %(lease_s)s * interval '1 second',
    progress = CASE WHEN status = 21101 THEN %(progress)s ELSE progress END
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s

-- name: hand_back
-- `blameless`: it did not fail for a reason of its own.
UPDATE model_versions SET status = CASE WHEN status = 21101 THEN 21103 ELSE status END, lease_owner = NULL,
    lease_until = now() + %(pause_s)s * interval '1 second', progress = CASE WHEN status = 21101 THEN 0 ELSE progress END,
    attempts = attempts - CASE WHEN %(blameless)s THEN 1 ELSE 0 END
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s

-- name: release_all
-- Only for a server that is alone on its database: whatever was leased belonged to a process that is gone. Trained versions
-- that were being fitted anew are looked for only where an app waits for them to change over; others wait for the lease to end.
UPDATE model_versions SET lease_owner = NULL, lease_until = NULL
WHERE lease_owner IS NOT NULL AND (bucket, id) IN (
    SELECT bucket, id FROM model_versions WHERE status IN (21101, 21103)
    UNION ALL
    SELECT w.bucket, w.id FROM reindexes r JOIN model_versions w ON w.bucket = r.bucket
    WHERE r.state = 'switching' AND w.examples IS NOT NULL
)

-- name: hold_app
SELECT FROM app_buckets WHERE bucket = %(bucket)s FOR KEY SHARE

-- name: hold
SELECT FROM model_versions WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s FOR UPDATE

-- name: trained
UPDATE model_versions SET status = 21100, status_details = '', completed_at = clock_timestamp(),
    modified_at = clock_timestamp(), total_input_count = %(inputs)s, examples = %(examples)s, progress = 1, attempts = 0,
    lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND id = %(id)s

-- name: failed
UPDATE model_versions SET status = %(status)s, status_details = %(reason)s, completed_at = clock_timestamp(),
    modified_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND id = %(id)s

-- name: fitted_anew
UPDATE model_versions SET attempts = 0, lease_owner = NULL, lease_until = NULL WHERE bucket = %(bucket)s AND id = %(id)s

-- name: insert_fit
INSERT INTO model_fits (bucket, model_version_id, embedder_id, fitted)
VALUES (%(bucket)s, %(id)s, %(embedder_id)s, %(fitted)s)
ON CONFLICT DO NOTHING

-- name: any_awaited
-- Whether one of these areas is of an input that will have its vectors yet. Those of an app that is about to change over
-- come after that, and it waits for the fits.
SELECT EXISTS (
    SELECT FROM areas r JOIN inputs i ON i.bucket = r.bucket AND i.number = r.input_number
    WHERE r.bucket = %(bucket)s AND i.bucket = %(bucket)s AND r.id = ANY(%(area_ids)s::bigint[])
        AND i.status IN (30001, 30003)
        AND NOT EXISTS (SELECT FROM reindexes x WHERE x.bucket = %(bucket)s AND x.state = 'switching')
)
