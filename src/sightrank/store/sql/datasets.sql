-- name: insert
INSERT INTO datasets (bucket, id, description)
SELECT %(bucket)s, r.id, r.description FROM jsonb_to_recordset(%(rows)s) AS r (id text, description text)
ON CONFLICT DO NOTHING
RETURNING id, description, created_at, modified_at

-- name: read
SELECT id, description, created_at, modified_at FROM datasets WHERE bucket = %(bucket)s AND id = %(id)s

-- name: list
-- Newest first; the page is appended.
SELECT id, description, created_at, modified_at FROM datasets WHERE bucket = %(bucket)s ORDER BY created_at DESC, id DESC

-- name: delete
DELETE FROM datasets WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)
