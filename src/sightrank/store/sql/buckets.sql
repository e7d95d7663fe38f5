-- name: next_version
-- Last in every transaction that changes what a search sees: the row stays locked until the commit.
UPDATE app_buckets SET version = version + 1, labels_version = CASE WHEN %(labels)s THEN version + 1 ELSE labels_version END
WHERE bucket = %(bucket)s
RETURNING version
