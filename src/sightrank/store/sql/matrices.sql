-- name: vector_indexes
-- Each index over the vectors of one bucket: its name, whether it is complete, whether its bucket still exists.
SELECT c.relname, i.indisvalid AND i.indisready,
    EXISTS (SELECT FROM app_buckets b WHERE b.bucket = substring(c.relname FROM '[0-9]+$')::bigint)
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relname ~ '^vectors_[0-9]+_near_[0-9]+$' AND c.relnamespace = current_schema()::regnamespace
ORDER BY c.relname

-- name: write
-- What this process holds now, all of it; what it no longer holds goes.
WITH held AS (
    SELECT * FROM unnest(%(buckets)s::bigint[], %(embedder_ids)s::int[], %(versions)s::bigint[], %(rows)s::bigint[],
        %(bytes)s::bigint[], %(rankers)s::text[]) AS h (bucket, embedder_id, version, rows, bytes, ranker)
), gone AS (
    DELETE FROM matrices m WHERE m.process = %(process)s
        AND NOT EXISTS (SELECT FROM held h WHERE (h.bucket, h.embedder_id) = (m.bucket, m.embedder_id))
)
INSERT INTO matrices (process, bucket, embedder_id, version, rows, bytes, ranker)
SELECT %(process)s, bucket, embedder_id, version, rows, bytes, ranker FROM held
ON CONFLICT (process, bucket, embedder_id) DO UPDATE SET version = excluded.version, rows = excluded.rows,
    bytes = excluded.bytes, ranker = excluded.ranker, seen_at = clock_timestamp()

-- name: seen
UPDATE matrices SET seen_at = clock_timestamp() WHERE process = %(process)s

-- name: forget
DELETE FROM matrices WHERE process = %(process)s

-- name: forget_the_dead
DELETE FROM matrices WHERE seen_at < clock_timestamp() - make_interval(secs => %(silent_s)s)

-- name: states
-- Each matrix of a process that was seen lately, beside its app and how many commits the bucket is ahead of it.
SELECT m.process, a.user_id, a.id, m.bucket, m.embedder_id, m.rows, m.bytes, m.ranker, b.version - m.version
FROM matrices m
JOIN app_buckets b ON b.bucket = m.bucket
JOIN apps a ON m.bucket >= a.first_bucket AND m.bucket < a.first_bucket + a.bucket_count
WHERE m.seen_at >= clock_timestamp() - make_interval(secs => %(silent_s)s)
ORDER BY a.user_id, a.id, m.process, m.embedder_id

-- name: largest
-- Apps with a bucket of more than so many vectors of one embedder.
SELECT a.user_id, a.id, v.rows
FROM (SELECT bucket, count(*) AS rows FROM {table} GROUP BY bucket HAVING count(*) > %(least)s) v
JOIN apps a ON v.bucket >= a.first_bucket AND v.bucket < a.first_bucket + a.bucket_count
ORDER BY a.user_id, a.id
