-- Who calls, and on which app.

-- name: caller_of_key
SELECT k.user_id, k.type, k.scopes, k.endpoints, k.expires_at,
       a.user_id, a.id, a.first_bucket, a.workflow_id, a.own_workflow_id, a.default_language, a.visibility = 50,
       a.sample_ms
  FROM keys k
  LEFT JOIN apps a ON (a.user_id, a.id) = (k.app_user_id, k.app_id)
 WHERE k.hash = %(hash)s AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())

-- name: app
SELECT a.user_id, a.id, a.first_bucket, a.workflow_id, a.own_workflow_id, a.default_language, a.visibility = 50,
       a.sample_ms
  FROM apps a
 WHERE a.user_id = %(user_id)s AND a.id = %(app_id)s

-- name: user
SELECT id, first_name, last_name, created_at FROM users WHERE id = %(user_id)s

-- name: insert_user
INSERT INTO users (id, first_name) VALUES (%(user_id)s, %(first_name)s)
ON CONFLICT (id) DO NOTHING

-- name: resource_counts
SELECT (SELECT count(*) FROM inputs WHERE bucket = %(bucket)s),
       (SELECT count(*) FROM datasets WHERE bucket = %(bucket)s),
       (SELECT count(*) FROM models WHERE bucket = %(bucket)s),
       (SELECT count(*) FROM workflows WHERE bucket = %(bucket)s)

-- name: bootstrap_lock
SELECT pg_advisory_xact_lock(7311020115)
