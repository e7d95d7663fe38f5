-- Saved searches and annotation filters.

-- name: insert
-- In order of the ids, so that two calls that save the same ones cannot wait for each other.
INSERT INTO searches (bucket, id, kind, message, outline, created_at, modified_at)
SELECT %(bucket)s, w.id, %(kind)s, w.message, w.outline, t.now + w.position * interval '1 us',
       t.now + w.position * interval '1 us'
  FROM unnest(%(ids)s::text[], %(messages)s::bytea[], %(outlines)s::bytea[])
       WITH ORDINALITY AS w (id, message, outline, position), (SELECT clock_timestamp() AS now) t
 ORDER BY w.id
ON CONFLICT DO NOTHING
RETURNING id, created_at, modified_at

-- name: read
SELECT id, kind, message, created_at, modified_at FROM searches WHERE bucket = %(bucket)s AND id = %(id)s

-- name: list
-- Newest first; the page is appended.
SELECT id, kind, outline, created_at, modified_at
  FROM searches
 WHERE bucket = %(bucket)s
 ORDER BY created_at DESC, id DESC

-- name: lock
SELECT id
  FROM searches
 WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)
 ORDER BY id
   FOR UPDATE

-- name: overwrite
UPDATE searches
   SET kind = %(kind)s, message = %(message)s, outline = %(outline)s, modified_at = clock_timestamp()
 WHERE bucket = %(bucket)s AND id = %(id)s
RETURNING created_at, modified_at

-- name: delete
DELETE FROM searches WHERE bucket = %(bucket)s AND id = %(id)s

-- name: insert_filters
INSERT INTO annotation_filters (bucket, id, message, created_at, modified_at)
SELECT %(bucket)s, w.id, w.message, t.now + w.position * interval '1 us', t.now + w.position * interval '1 us'
  FROM unnest(%(ids)s::text[], %(messages)s::bytea[]) WITH ORDINALITY AS w (id, message, position),
       (SELECT clock_timestamp() AS now) t
 ORDER BY w.id
ON CONFLICT DO NOTHING
RETURNING id, message, created_at, modified_at

-- name: read_filter
SELECT id, message, created_at, modified_at FROM annotation_filters WHERE bucket = %(bucket)s AND id = %(id)s

-- name: list_filters
-- Newest first; the page is appended.
SELECT id, message, created_at, modified_at
  FROM annotation_filters
 WHERE bucket = %(bucket)s
 ORDER BY created_at DESC, id DESC

-- name: lock_filters
SELECT id, message, created_at, modified_at
  FROM annotation_filters
 WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)
 ORDER BY id
   FOR UPDATE

-- name: overwrite_filter
UPDATE annotation_filters
   SET message = %(message)s, modified_at = clock_timestamp()
 WHERE bucket = %(bucket)s AND id = %(id)s
RETURNING id, message, created_at, modified_at

-- name: delete_filters
DELETE FROM annotation_filters WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)
