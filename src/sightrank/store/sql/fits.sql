-- name: fit
SELECT f.fitted FROM model_fits f JOIN model_versions v ON v.bucket = f.bucket AND v.id = f.model_version_id
WHERE f.bucket = %(bucket)s AND f.model_version_id = %(version_id)s AND f.embedder_id = %(embedder_id)s
    AND v.bucket = %(bucket)s AND v.created_at = %(made_at)s

-- name: heads
-- Trained versions with what they learnt for the vectors of an embedder, the most recently completed first, and whether each is
-- the latest of its model.
SELECT v.id, v.created_at, v.model_id, v.concept_ids,
    row_number() OVER (PARTITION BY v.model_id ORDER BY v.created_at DESC, v.id DESC) = 1
FROM model_versions v
JOIN model_fits f ON f.bucket = v.bucket AND f.model_version_id = v.id
WHERE v.bucket = %(bucket)s AND v.status = 21100 AND f.bucket = %(bucket)s AND f.embedder_id = %(embedder_id)s
ORDER BY v.completed_at DESC NULLS LAST, v.id DESC

-- name: version
-- What became of a version of any model of the app.
SELECT model_id, status FROM model_versions WHERE bucket = %(bucket)s AND id = %(version_id)s
