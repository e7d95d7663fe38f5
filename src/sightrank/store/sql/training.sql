-- Model versions that wait to be trained, and trained ones that lack a fit for the vectors their app has now. Rows are locked
-- in the order app_buckets (shared), models, model_versions, app_buckets (its version).

-- name: buckets_with_work
-- Apps in which a version waits that may be taken, or was left by a process that died. Apps take turns: those that were served
-- come after the others, in the order in which they were; else the longest waiting comes first. Whoever finds that another
-- process has taken it goes on to the next. An app has few that wait, most have none.
-- A version may be taken when it is no more work than `most`, which of one whose examples nobody has read is told by its
-- concepts, and when the inputs it waits for are done, or it has waited for them long enough.
SELECT w.bucket, a.workflow_id
FROM model_versions w JOIN apps a ON a.first_bucket = w.bucket
WHERE w.status IN (21101, 21103) AND (w.lease_until IS NULL OR w.lease_until < now())
    AND coalesce(w.effort, %(effort_of_concept)s::bigint * cardinality(w.concept_ids)) <= %(most)s
    AND (w.awaited = '{}' OR w.created_at < now() - %(patience_s)s * interval '1 second' OR NOT EXISTS (
        SELECT FROM unnest(w.awaited) AS n (number) CROSS JOIN LATERAL (
            SELECT FROM inputs i
            WHERE i.bucket = w.bucket AND i.number = n.number AND i.status IN (30001, 30003) LIMIT 1
        ) pending
    ))
    AND a.workflow_id = ANY(%(workflow_ids)s)
GROUP BY w.bucket, a.workflow_id
ORDER BY array_position(%(served)s::bigint[], w.bucket) NULLS FIRST, min(w.created_at) LIMIT 16

-- name: claim
-- The one of an app that waits longest of those that may be taken. No lock outlives the statement: the lease is what holds the
-- row. Also whether inputs that were posted before it are yet to be indexed, and whether it has waited long enough for them.
-- Times of inputs are by a server's clock and those of versions by the database's, which may be a little apart.
UPDATE model_versions v SET status = 21101, lease_owner = %(owner)s,
    lease_until = now() + %(lease_s)s * interval '1 second', attempts = attempts + 1, modified_at = clock_timestamp(),
    status_details = ''
WHERE bucket = %(bucket)s AND id = (
    SELECT w.id FROM model_versions w
    WHERE w.bucket = %(bucket)s AND w.status IN (21101, 21103) AND (w.lease_until IS NULL OR w.lease_until < now())
        AND coalesce(w.effort, %(effort_of_concept)s::bigint * cardinality(w.concept_ids)) <= %(most)s
        AND (w.awaited = '{}' OR w.created_at < now() - %(patience_s)s * interval '1 second' OR NOT EXISTS (
            SELECT FROM unnest(w.awaited) AS n (number) CROSS JOIN LATERAL (
                SELECT FROM inputs i
                WHERE i.bucket = %(bucket)s AND i.number = n.number AND i.status IN (30001, 30003) LIMIT 1
            ) pending
        ))
    ORDER BY w.created_at LIMIT 1 FOR UPDATE OF w SKIP LOCKED
)
RETURNING id, model_id, concept_ids, training, attempts, EXISTS (
    SELECT FROM inputs i
    WHERE i.bucket = %(bucket)s AND i.status IN (30001, 30003) AND i.created_at <= v.created_at + interval '1 second'
), created_at < now() - %(patience_s)s * interval '1 second'

-- name: awaited
-- Inputs that were posted before the version, have a label that it is to learn from, and are yet to be indexed; of a version
-- of a dataset those that were in it by then.
SELECT string_agg(int8send(i.number), ''::bytea ORDER BY i.number)
FROM inputs i
WHERE i.bucket = %(bucket)s AND i.status IN (30001, 30003)
    AND i.created_at <= (
        SELECT v.created_at + interval '1 second' FROM model_versions v WHERE v.bucket = %(bucket)s AND v.id = %(id)s
    )
    AND EXISTS (
        SELECT FROM labels l
        WHERE l.bucket = %(bucket)s AND l.input_number = i.number AND l.concept_id = ANY(%(concept_ids)s::text[])
            AND l.trusted
    )
    AND (%(dataset_id)s = '' OR EXISTS (
        SELECT FROM dataset_inputs d
        WHERE d.bucket = %(bucket)s AND d.dataset_id = %(dataset_id)s AND d.input_number = i.number
            AND (%(dataset_version_id)s = '' OR d.created_at <= (
                SELECT as_of FROM dataset_versions
                WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(dataset_version_id)s
            ))
    ))

-- name: wait_for
-- Back into the queue until these inputs are done; the attempt does not count.
UPDATE model_versions SET status = 21103, status_details = %(reason)s, awaited = %(numbers)s::bigint[], progress = 0,
    attempts = attempts - 1, lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s

-- name: wait_as_large
-- Back into the queue, now that it is known how much work it is; the attempt does not count.
UPDATE model_versions SET status = 21103, effort = %(effort)s, progress = 0, attempts = attempts - 1, lease_owner = NULL,
    lease_until = NULL
WHERE bucket = %(bucket)s AND id = %(id)s AND lease_owner = %(owner)s

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
UPDATE model_versions SET status = 21100, status_details = %(details)s, completed_at = clock_timestamp(),
    modified_at = clock_timestamp(), total_input_count = %(inputs)s, examples = %(examples)s, progress = 1, attempts = 0,
    awaited = '{}', lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND id = %(id)s

-- name: failed
UPDATE model_versions SET status = %(status)s, status_details = %(reason)s, completed_at = clock_timestamp(),
    modified_at = clock_timestamp(), awaited = '{}', lease_owner = NULL, lease_until = NULL
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
