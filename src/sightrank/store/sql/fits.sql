-- name: fit
SELECT f.fitted FROM model_fits f JOIN model_versions v ON v.bucket = f.bucket AND v.id = f.model_version_id
WHERE f.bucket = %(bucket)s AND f.model_version_id = %(version_id)s AND f.embedder_id = %(embedder_id)s
    AND v.bucket = %(bucket)s AND v.created_at = %(made_at)s

-- name: heads
-- Of each model the latest version that has learnt something for the vectors of an embedder, the most recently completed first.
SELECT id, created_at, model_id, concept_ids
FROM (
    SELECT v.*, row_number() OVER (PARTITION BY v.model_id ORDER BY v.created_at DESC, v.id DESC) AS place
    FROM model_versions v JOIN model_fits f ON f.bucket = v.bucket AND f.model_version_id = v.id
    WHERE v.bucket = %(bucket)s AND v.status = 21100 AND f.bucket = %(bucket)s AND f.embedder_id = %(embedder_id)s
) fitted
WHERE place = 1
ORDER BY completed_at DESC NULLS LAST, id DESC

-- name: head
SELECT v.id, v.created_at, v.model_id, v.concept_ids
FROM model_versions v JOIN model_fits f ON f.bucket = v.bucket AND f.model_version_id = v.id
WHERE v.bucket = %(bucket)s AND v.id = %(version_id)s AND v.status = 21100
    AND f.bucket = %(bucket)s AND f.embedder_id = %(embedder_id)s

-- name: version
-- What became of a version of any model of the app.
SELECT model_id, status FROM model_versions WHERE bucket = %(bucket)s AND id = %(version_id)s
