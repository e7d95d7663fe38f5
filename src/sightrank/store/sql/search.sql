-- name: versions
SELECT version, labels_version FROM app_buckets WHERE bucket = %(bucket)s

-- name: removed_since
SELECT area_id FROM removals WHERE bucket = %(bucket)s AND version > %(version)s

-- name: latest_labels
SELECT DISTINCT ON (area_id) area_id, value
FROM labels
WHERE bucket = %(bucket)s AND concept_id = %(concept_id)s AND trusted
ORDER BY area_id, modified_at DESC, annotation_id DESC

-- name: input_to_rank_by
SELECT number, status FROM inputs WHERE bucket = %(bucket)s AND id = %(id)s
