-- Keys. Only hashes are stored; every list shows the prefix.

-- name: insert_keys
INSERT INTO keys (hash, prefix, user_id, type, description, scopes, endpoints, app_user_id, app_id, created_at, expires_at)
SELECT k.hash, k.prefix, %(user_id)s, k.type, k.description,
       ARRAY(SELECT jsonb_array_elements_text(k.scopes)), ARRAY(SELECT jsonb_array_elements_text(k.endpoints)),
       k.app_user_id, k.app_id, t.now + k.position * interval '1 us', k.expires_at
  FROM unnest(%(hashes)s::bytea[], %(prefixes)s::text[], %(types)s::text[], %(descriptions)s::text[],
              %(scopes)s::jsonb[], %(endpoints)s::jsonb[], %(app_user_ids)s::text[], %(app_ids)s::text[],
              %(expiries)s::timestamptz[])
         WITH ORDINALITY AS k (hash, prefix, type, description, scopes, endpoints, app_user_id, app_id, expires_at,
                               position),
       (SELECT clock_timestamp() AS now) t
RETURNING prefix, type, description, scopes, endpoints, app_user_id, app_id, created_at, expires_at

-- name: upsert_key
INSERT INTO keys AS k (hash, prefix, user_id, type, description, app_user_id, app_id)
VALUES (%(hash)s, %(prefix)s, %(user_id)s, %(type)s, %(description)s, %(app_user_id)s, %(app_id)s)
ON CONFLICT (hash) DO UPDATE
   SET user_id = excluded.user_id, type = excluded.type, app_user_id = excluded.app_user_id, app_id = excluded.app_id,
       scopes = excluded.scopes, endpoints = excluded.endpoints, expires_at = NULL

-- name: find_keys
SELECT prefix, type, description, scopes, endpoints, app_user_id, app_id, created_at, expires_at, hash
  FROM keys
 WHERE user_id = %(user_id)s AND (hash = %(hash)s OR prefix = %(prefix)s)
 ORDER BY hash = %(hash)s DESC
   FOR UPDATE

-- name: list_keys
SELECT prefix, type, description, scopes, endpoints, app_user_id, app_id, created_at, expires_at
  FROM keys
 WHERE user_id = %(user_id)s
   AND (%(type)s = '' OR type = %(type)s)
   AND (NOT %(not_expired)s OR expires_at IS NULL OR expires_at > clock_timestamp())
   AND scopes @> %(scopes)s::text[] AND endpoints @> %(endpoints)s::text[]
 ORDER BY created_at DESC, hash

-- name: list_app_keys
SELECT prefix, type, description, scopes, endpoints, app_user_id, app_id, created_at, expires_at
  FROM keys
 WHERE app_user_id = %(user_id)s AND app_id = %(app_id)s
 ORDER BY created_at DESC, hash

-- name: patch_key
UPDATE keys
   SET description = coalesce(%(description)s, description), scopes = %(scopes)s, endpoints = %(endpoints)s,
       expires_at = coalesce(%(expires_at)s, expires_at)
 WHERE hash = %(hash)s
RETURNING prefix, type, description, scopes, endpoints, app_user_id, app_id, created_at, expires_at

-- name: delete_key
DELETE FROM keys WHERE hash = %(hash)s
