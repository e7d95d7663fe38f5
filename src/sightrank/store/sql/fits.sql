-- name: fit
SELECT fitted FROM model_fits
WHERE bucket = %(bucket)s AND model_version_id = %(version_id)s AND embedder_id = %(embedder_id)s
