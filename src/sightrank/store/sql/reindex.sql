-- Changing an app's base workflow (migration 0004). Rows are locked in the order apps, reindexes, inputs, app_buckets.

-- name: workflow
SELECT workflow_id, own_workflow_id FROM apps WHERE first_bucket = %(bucket)s

-- name: apps_with_other_workflows
SELECT workflow_id, count(*) FROM apps WHERE NOT workflow_id = ANY(%(workflow_ids)s) GROUP BY workflow_id ORDER BY workflow_id

-- name: lock
SELECT workflow_id, own_workflow_id, state FROM reindexes WHERE bucket = %(bucket)s FOR UPDATE

-- name: has_indexed
SELECT EXISTS (SELECT FROM inputs WHERE bucket = %(bucket)s AND status = 30000)

-- name: want
-- Another workflow than before starts from nothing; the same one goes on where it was, unless it is the app's own: its nodes
-- may have changed, or what they look up.
INSERT INTO reindexes AS r (bucket, workflow_id, own_workflow_id, state)
VALUES (%(bucket)s, %(workflow_id)s, %(own_workflow_id)s, 'sweeping')
ON CONFLICT (bucket) DO UPDATE SET workflow_id = excluded.workflow_id, own_workflow_id = excluded.own_workflow_id,
    embedder_id = NULL, state = 'sweeping', after_number = 0, failure = '', attempts = 0, started_at = clock_timestamp(),
    modified_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL
WHERE r.workflow_id IS DISTINCT FROM excluded.workflow_id OR r.own_workflow_id <> '' OR excluded.own_workflow_id <> ''

-- name: go_on
UPDATE reindexes SET state = 'running', after_number = 0, failure = '', attempts = 0, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND state = 'failed'

-- name: stop
UPDATE reindexes SET workflow_id = NULL, own_workflow_id = '', embedder_id = NULL, state = 'sweeping', after_number = 0,
    failure = '', attempts = 0, modified_at = clock_timestamp(), lease_owner = NULL, lease_until = NULL
WHERE bucket = %(bucket)s AND workflow_id IS NOT NULL

-- name: forget_failures
DELETE FROM reindex_failures WHERE bucket = %(bucket)s

-- name: buckets_with_work
-- Apps that want a workflow which can run here, or have one and want no other; the one whose turn is longest ago first. Whoever
-- finds that another process has taken it goes on to the next.
SELECT r.bucket FROM reindexes r JOIN apps a ON a.first_bucket = r.bucket
WHERE r.state <> 'failed' AND (r.lease_until IS NULL OR r.lease_until < now())
    AND coalesce(r.workflow_id, a.workflow_id) = ANY(%(workflow_ids)s)
ORDER BY r.modified_at LIMIT 16

-- name: claim
-- No lock outlives the statement: the lease is what holds the row.
UPDATE reindexes SET lease_owner = %(owner)s, lease_until = now() + %(lease_s)s * interval '1 second',
    attempts = attempts + 1
WHERE bucket = (
    SELECT r.bucket FROM reindexes r JOIN apps a ON a.first_bucket = r.bucket
    WHERE r.bucket = %(bucket)s AND r.state <> 'failed' AND (r.lease_until IS NULL OR r.lease_until < now())
        AND coalesce(r.workflow_id, a.workflow_id) = ANY(%(workflow_ids)s)
    FOR UPDATE OF r SKIP LOCKED
) AND bucket = %(bucket)s
RETURNING workflow_id, own_workflow_id, embedder_id, state, after_number, attempts

-- name: renew
UPDATE reindexes SET lease_until = now() + %(lease_s)s * interval '1 second'
WHERE bucket = (
    SELECT bucket FROM reindexes WHERE bucket = %(bucket)s AND lease_owner = %(owner)s FOR UPDATE SKIP LOCKED
)

-- name: release
-- After a step that went well. Who has been careful stays so.
UPDATE reindexes SET lease_owner = NULL, lease_until = now() + %(pause_s)s * interval '1 second',
    attempts = least(attempts - 1, %(suspect_from)s), modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND lease_owner = %(owner)s

-- name: put_off
-- After a step that did not.
UPDATE reindexes SET lease_owner = NULL, lease_until = now() + %(pause_s)s * interval '1 second',
    attempts = attempts - CASE WHEN %(blameless)s THEN 1 ELSE 0 END, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND lease_owner = %(owner)s

-- name: release_all
-- Only for a server that is alone on its database: whatever was leased belonged to a process that is gone.
UPDATE reindexes SET lease_owner = NULL, lease_until = NULL WHERE lease_owner IS NOT NULL

-- name: hold
-- Whether the job is still ours: a patch of the app takes it away.
SELECT FROM reindexes WHERE bucket = %(bucket)s AND lease_owner = %(owner)s AND state = %(state)s FOR UPDATE

-- name: advance
UPDATE reindexes SET state = %(state)s, embedder_id = %(embedder_id)s, after_number = %(after_number)s,
    modified_at = clock_timestamp()
WHERE bucket = %(bucket)s

-- name: fail
UPDATE reindexes SET state = 'failed', failure = %(failure)s, modified_at = clock_timestamp(), lease_owner = NULL,
    lease_until = NULL
WHERE bucket = %(bucket)s

-- name: end
DELETE FROM reindexes WHERE bucket = %(bucket)s

-- name: missing
-- Indexed images and videos that have an area the wanted workflow has not looked at, and are not known to be beyond it.
-- Regions that the old workflow found are none of its business, unless somebody has annotated them.
SELECT i.number, i.id, i.media, i.url, i.blob, coalesce(nullif(i.sample_ms, 0), a.sample_ms)
FROM inputs i JOIN apps a ON a.first_bucket = i.bucket
WHERE i.bucket = %(bucket)s AND i.number > %(after_number)s AND i.status = 30000
    AND i.media IN ('image', 'video')
    AND NOT EXISTS (SELECT FROM reindex_failures f WHERE f.bucket = %(bucket)s AND f.input_number = i.number)
    AND EXISTS (
        SELECT FROM areas r LEFT JOIN reindexed_areas s ON s.bucket = r.bucket AND s.area_id = r.id
        WHERE r.bucket = %(bucket)s AND r.input_number = i.number AND s.area_id IS NULL
            AND (r.model_version_id = '' OR EXISTS (
                SELECT FROM annotations a
                WHERE a.bucket = r.bucket AND a.area_id = r.id AND a.model_version_id = '' AND a.written_by = ''
            ))
    )
ORDER BY i.number
LIMIT %(limit)s

-- name: any_missing
-- As `missing`, those it could not look at included.
SELECT EXISTS (
    SELECT FROM inputs i
    JOIN areas r ON r.bucket = i.bucket AND r.input_number = i.number
    LEFT JOIN reindexed_areas s ON s.bucket = r.bucket AND s.area_id = r.id
    WHERE i.bucket = %(bucket)s AND r.bucket = %(bucket)s AND i.status = 30000 AND s.area_id IS NULL
        AND i.media IN ('image', 'video')
        AND (r.model_version_id = '' OR EXISTS (
            SELECT FROM annotations a
            WHERE a.bucket = r.bucket AND a.area_id = r.id AND a.model_version_id = '' AND a.written_by = ''
        ))
)

-- name: any_working
SELECT EXISTS (SELECT FROM inputs WHERE bucket = %(bucket)s AND status = 30003 AND lease_until >= now())

-- name: keep_pictures
-- A workflow that indexes nothing fetched nothing: what was fetched now is kept.
UPDATE inputs i SET blob = r.blob, width = r.width, height = r.height, format = r.format, color_mode = r.color_mode,
    duration_ms = r.duration_ms, sample_ms = greatest(i.sample_ms, r.sample_ms), modified_at = clock_timestamp()
FROM jsonb_to_recordset(%(rows)s) AS r (
    number bigint, blob text, width int, height int, format text, color_mode text, duration_ms int, sample_ms int
)
WHERE i.bucket = %(bucket)s AND i.number = r.number AND i.width = 0

-- name: stage
INSERT INTO reindexed_areas (
    bucket, area_id, input_number, model_id, model_version_id, concept_ids, concept_values, data
)
SELECT %(bucket)s, r.area_id, r.input_number, r.model_id, r.model_version_id, r.concept_ids, r.concept_values, r.data
FROM jsonb_to_recordset(%(rows)s) AS r (
    area_id bigint, input_number bigint, model_id text, model_version_id text, concept_ids text[], concept_values real[],
    data jsonb
)
ON CONFLICT (bucket, area_id) DO UPDATE SET model_id = excluded.model_id, model_version_id = excluded.model_version_id,
    concept_ids = excluded.concept_ids, concept_values = excluded.concept_values, data = excluded.data

-- name: drop_aside_regions
DELETE FROM reindexed_regions WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s)

-- name: put_regions_aside
INSERT INTO reindexed_regions (
    bucket, region_id, input_number, box_top, box_left, box_bottom, box_right, data, detector_id, detector_version_id,
    detected_id, detected_value, tagger_id, tagger_version_id, concept_ids, concept_values, vector
)
SELECT %(bucket)s, r.region_id, r.input_number, r.box_top, r.box_left, r.box_bottom, r.box_right, r.data, r.detector_id,
    r.detector_version_id, r.detected_id, r.detected_value, r.tagger_id, r.tagger_version_id, r.concept_ids, r.concept_values,
    r.vector::halfvec
FROM jsonb_to_recordset(%(rows)s) AS r (
    region_id text, input_number bigint, box_top real, box_left real, box_bottom real, box_right real, data jsonb,
    detector_id text, detector_version_id text, detected_id text, detected_value real, tagger_id text,
    tagger_version_id text, concept_ids text[], concept_values real[], vector text
)

-- name: refuse
INSERT INTO reindex_failures (bucket, input_number, reason)
SELECT i.bucket, i.number, r.reason
FROM jsonb_to_recordset(%(rows)s) AS r (number bigint, reason text)
JOIN inputs i ON i.bucket = %(bucket)s AND i.number = r.number
ON CONFLICT (bucket, input_number) DO UPDATE SET reason = excluded.reason

-- name: failures
SELECT i.id, f.reason
FROM reindex_failures f JOIN inputs i ON i.bucket = f.bucket AND i.number = f.input_number
WHERE f.bucket = %(bucket)s AND i.bucket = %(bucket)s
ORDER BY i.number

-- name: lock_app
SELECT workflow_id FROM apps WHERE first_bucket = %(bucket)s FOR UPDATE

-- name: lock_inputs
-- Everything that a writer could be about to change, in the order in which every writer locks.
SELECT count(*) FROM (
    SELECT FROM inputs
    WHERE bucket = %(bucket)s AND (status = 30000 OR number IN (
        SELECT input_number FROM areas WHERE bucket = %(bucket)s AND model_version_id <> ''
    ))
    ORDER BY number FOR UPDATE
) locked

-- name: drop_predictions
-- And what writers wrote.
DELETE FROM annotations WHERE bucket = %(bucket)s AND (model_version_id <> '' OR written_by <> '') RETURNING *

-- name: take_predictions
INSERT INTO annotations (
    bucket, input_number, id, area_id, created_at, modified_at, status, trusted, model_id, model_version_id, concept_ids,
    concept_values, data
)
SELECT s.bucket, s.input_number, replace(gen_random_uuid()::text, '-', ''), s.area_id, s.instant, s.instant, 24150, false,
    s.model_id, s.model_version_id, s.concept_ids, s.concept_values, s.data
FROM (
    SELECT *, t.now + row_number() OVER (ORDER BY input_number, area_id) * interval '1 us' AS instant
    FROM reindexed_areas, (SELECT clock_timestamp() AS now) t
    WHERE bucket = %(bucket)s AND model_id <> ''
) s

-- name: inputs_with_found_regions
SELECT DISTINCT r.input_number FROM areas r
WHERE r.bucket = %(bucket)s AND r.model_version_id <> '' AND NOT EXISTS (
    SELECT FROM annotations a
    WHERE a.bucket = r.bucket AND a.area_id = r.id AND a.model_version_id = '' AND a.written_by = ''
)
LIMIT %(limit)s

-- name: drop_found_regions
-- Their vectors and annotations go with them.
WITH gone AS (
    DELETE FROM areas r
    WHERE r.bucket = %(bucket)s AND r.model_version_id <> ''
        AND (%(numbers)s::bigint[] IS NULL OR r.input_number = ANY(%(numbers)s))
        AND NOT EXISTS (
            SELECT FROM annotations a
            WHERE a.bucket = r.bucket AND a.area_id = r.id AND a.model_version_id = '' AND a.written_by = ''
        )
    RETURNING id
)
INSERT INTO removals (bucket, version, area_id) SELECT %(bucket)s, %(version)s, id FROM gone

-- name: take_regions
-- Those that are areas already stay these areas.
INSERT INTO areas (
    bucket, input_number, created_at, region_id, box_top, box_left, box_bottom, box_right, model_version_id
)
SELECT s.bucket, s.input_number, t.now + row_number() OVER (ORDER BY s.number) * interval '1 us',
    s.region_id, s.box_top, s.box_left, s.box_bottom, s.box_right, s.detector_version_id
FROM reindexed_regions s, (SELECT clock_timestamp() AS now) t
WHERE s.bucket = %(bucket)s
ON CONFLICT (bucket, region_id) WHERE region_id IS NOT NULL DO NOTHING

-- name: take_detections
INSERT INTO annotations (
    bucket, input_number, id, area_id, created_at, modified_at, status, trusted, model_id, model_version_id, concept_ids,
    concept_values, data
)
SELECT s.bucket, s.input_number, replace(gen_random_uuid()::text, '-', ''), s.area_id, s.instant, s.instant, 24150, false,
    s.detector_id, s.detector_version_id, ARRAY[s.detected_id], ARRAY[s.detected_value],
    jsonb_set(s.data, '{regions,0,value}', to_jsonb(s.detected_value))
FROM (
    SELECT g.*, r.id AS area_id, t.now + row_number() OVER (ORDER BY g.number) * interval '1 us' AS instant
    FROM reindexed_regions g JOIN areas r ON r.bucket = g.bucket AND r.region_id = g.region_id,
        (SELECT clock_timestamp() AS now) t
    WHERE g.bucket = %(bucket)s AND r.bucket = %(bucket)s
) s

-- name: take_tags_of_regions
-- Those that were areas before have theirs: they were looked at as such.
INSERT INTO annotations (
    bucket, input_number, id, area_id, created_at, modified_at, status, trusted, model_id, model_version_id, concept_ids,
    concept_values, data
)
SELECT s.bucket, s.input_number, replace(gen_random_uuid()::text, '-', ''), s.area_id, s.instant, s.instant, 24150, false,
    s.tagger_id, s.tagger_version_id, s.concept_ids, s.concept_values, s.data
FROM (
    SELECT g.*, r.id AS area_id, t.now + row_number() OVER (ORDER BY g.number) * interval '1 us' AS instant
    FROM reindexed_regions g JOIN areas r ON r.bucket = g.bucket AND r.region_id = g.region_id,
        (SELECT clock_timestamp() AS now) t
    WHERE g.bucket = %(bucket)s AND r.bucket = %(bucket)s AND g.tagger_id <> '' AND NOT EXISTS (
        SELECT FROM reindexed_areas before WHERE before.bucket = g.bucket AND before.area_id = r.id
    )
) s

-- name: drop_aside_annotations
DELETE FROM reindexed_annotations WHERE bucket = %(bucket)s AND input_number = ANY(%(numbers)s)

-- name: put_annotations_aside
INSERT INTO reindexed_annotations (
    bucket, input_number, area_id, region_id, status, trusted, user_id, model_id, model_version_id, written_by, concept_ids,
    concept_values, annotation_info, data
)
SELECT %(bucket)s, r.input_number, r.area_id, r.region_id, r.status, r.trusted, r.user_id, r.model_id, r.model_version_id,
    r.written_by, r.concept_ids, r.concept_values, r.annotation_info, r.data
FROM jsonb_to_recordset(%(rows)s) AS r (
    input_number bigint, area_id bigint, region_id text, status int, trusted boolean, user_id text, model_id text,
    model_version_id text, written_by text, concept_ids text[], concept_values real[], annotation_info jsonb, data jsonb
)

-- name: concepts_aside
-- What writers are about to say, as an app that has none of it yet needs to know.
SELECT DISTINCT unnest(concept_ids) FROM reindexed_annotations WHERE bucket = %(bucket)s ORDER BY 1

-- name: take_annotations
-- What the nodes of an own workflow say; models by the ids that they have now. A writer says nothing of a concept of which
-- people have said something there, under any id that it goes by: `same_ids`, paired with `concept_ids`.
INSERT INTO annotations (
    bucket, input_number, id, area_id, created_at, modified_at, status, trusted, user_id, model_id, model_version_id,
    own_model, written_by, concept_ids, concept_values, annotation_info, data
)
SELECT s.bucket, s.input_number, replace(gen_random_uuid()::text, '-', ''), s.of_area, s.instant, s.instant, s.status,
    s.trusted, s.user_id, coalesce(s.named, s.model_id), s.model_version_id, s.model_version_id <> '', s.written_by, s.ids,
    s.values, s.annotation_info, s.data
FROM (
    SELECT g.*, r.id AS of_area, c.ids, c.values,
        (SELECT v.model_id FROM model_versions v WHERE v.bucket = g.bucket AND v.id = g.model_version_id) AS named,
        t.now + row_number() OVER (ORDER BY g.number) * interval '1 us' AS instant
    FROM reindexed_annotations g
    JOIN areas r ON r.bucket = g.bucket AND r.id = coalesce(
        g.area_id, (SELECT f.id FROM areas f WHERE f.bucket = g.bucket AND f.region_id = g.region_id)
    )
    CROSS JOIN LATERAL (
        SELECT array_agg(u.id ORDER BY u.place) AS ids, array_agg(u.value ORDER BY u.place) AS values
        FROM unnest(g.concept_ids, g.concept_values) WITH ORDINALITY AS u (id, value, place)
        WHERE g.written_by = '' OR NOT EXISTS (
            SELECT FROM unnest(%(concept_ids)s::text[], %(same_ids)s::text[]) AS m (id, same_id)
            JOIN labels l ON l.bucket = g.bucket AND l.concept_id = m.same_id AND l.area_id = r.id
            JOIN annotations a ON a.bucket = l.bucket AND a.input_number = l.input_number AND a.id = l.annotation_id
            WHERE m.id = u.id AND a.written_by = ''
        )
    ) c, (SELECT greatest(clock_timestamp(), versions_as_of) AS now FROM app_buckets WHERE bucket = %(bucket)s) t
    WHERE g.bucket = %(bucket)s AND r.bucket = %(bucket)s AND c.ids IS NOT NULL
) s

-- name: label_written
INSERT INTO labels (bucket, concept_id, area_id, annotation_id, input_number, value, trusted, modified_at)
SELECT a.bucket, c.concept_id, a.area_id, a.id, a.input_number, c.value, a.trusted, a.modified_at
FROM annotations a CROSS JOIN LATERAL unnest(a.concept_ids, a.concept_values) AS c (concept_id, value)
WHERE a.bucket = %(bucket)s AND a.written_by <> ''

-- name: forget_troubles
-- What the own workflow of before could not do.
UPDATE inputs SET status_details = '' WHERE bucket = %(bucket)s AND status = 30000 AND status_details <> ''

-- name: set_workflow
-- The own one under the id that it has now.
UPDATE apps a SET workflow_id = r.workflow_id, own_workflow_id = r.own_workflow_id, modified_at = clock_timestamp()
FROM reindexes r WHERE r.bucket = %(bucket)s AND a.first_bucket = r.bucket

-- name: sweep_staged
DELETE FROM reindexed_areas WHERE bucket = %(bucket)s AND area_id = ANY (ARRAY (
    SELECT area_id FROM reindexed_areas WHERE bucket = %(bucket)s LIMIT %(limit)s
))

-- name: sweep_aside_regions
DELETE FROM reindexed_regions WHERE bucket = %(bucket)s AND number = ANY (ARRAY (
    SELECT number FROM reindexed_regions WHERE bucket = %(bucket)s LIMIT %(limit)s
))

-- name: sweep_aside_annotations
DELETE FROM reindexed_annotations WHERE bucket = %(bucket)s AND number = ANY (ARRAY (
    SELECT number FROM reindexed_annotations WHERE bucket = %(bucket)s LIMIT %(limit)s
))

-- name: sweep_predictions
-- Of an app whose workflow runs no model any more.
DELETE FROM annotations WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM annotations WHERE bucket = %(bucket)s AND model_version_id <> ''
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED
))

-- name: other_embedders
-- All tables of vectors but the one the app is searched by.
SELECT id, dims FROM embedders WHERE id <> %(kept)s ORDER BY id

-- name: progress
-- What is wanted, how far it is in inputs, and what went wrong.
SELECT coalesce(nullif(r.own_workflow_id, ''), r.workflow_id), r.state, r.failure,
    (SELECT count(*) FROM inputs i WHERE i.bucket = r.bucket AND i.status = 30000
        AND i.media IN ('image', 'video')),
    (SELECT count(DISTINCT s.input_number) FROM reindexed_areas s WHERE s.bucket = r.bucket),
    (SELECT count(*) FROM reindex_failures f WHERE f.bucket = r.bucket)
FROM reindexes r WHERE r.bucket = %(bucket)s AND r.workflow_id IS NOT NULL
