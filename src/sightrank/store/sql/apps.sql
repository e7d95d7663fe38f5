-- Applications. `app_row` order of columns: see api/apps.py.

-- name: insert_apps
WITH wanted AS (
    SELECT * FROM unnest(%(ids)s::text[], %(names)s::text[], %(descriptions)s::text[], %(notes)s::text[],
                         %(languages)s::text[], %(workflows)s::text[], %(metadata)s::jsonb[], %(visibilities)s::int[],
                         %(sample_ms)s::int[], %(templates)s::boolean[])
           WITH ORDINALITY AS w (id, name, description, notes, language, workflow, metadata, visibility, sample_ms,
                                 template, position)
), buckets AS (
    INSERT INTO app_buckets (version) SELECT 0 FROM wanted RETURNING bucket
), numbered AS (
    SELECT bucket, row_number() OVER (ORDER BY bucket) AS position FROM buckets
)
INSERT INTO apps (user_id, id, first_bucket, name, description, notes, default_language, workflow_id, metadata,
                  visibility, sample_ms, is_template, created_at, modified_at)
SELECT %(user_id)s, w.id, n.bucket, w.name, w.description, w.notes, w.language, w.workflow, w.metadata,
       w.visibility, w.sample_ms, w.template, t.now + w.position * interval '1 us', t.now + w.position * interval '1 us'
  FROM wanted w JOIN numbered n USING (position), (SELECT clock_timestamp() AS now) t
 ORDER BY w.position
RETURNING user_id, id, name, description, notes, default_language, workflow_id, own_workflow_id, metadata, visibility,
          sample_ms, is_template, created_at, modified_at

-- name: app_rows
SELECT user_id, id, name, description, notes, default_language, workflow_id, own_workflow_id, metadata, visibility,
       sample_ms, is_template, created_at, modified_at
  FROM apps
 WHERE user_id = %(user_id)s AND id = ANY(%(ids)s)

-- name: list_apps
SELECT user_id, id, name, description, notes, default_language, workflow_id, own_workflow_id, metadata, visibility,
       sample_ms, is_template, created_at, modified_at
  FROM apps
 WHERE user_id = %(user_id)s
   AND (NOT %(public_only)s OR visibility = 50)
   AND (NOT %(template_only)s OR is_template)
   AND (%(visibility)s = 0 OR visibility = %(visibility)s)
   AND lower(name) LIKE lower(%(name)s) AND lower(id) LIKE lower(%(id)s)
   AND (%(text)s = '' OR strpos(lower(id || ' ' || name || ' ' || description), lower(%(text)s)) > 0)

-- name: workflows
SELECT first_bucket, workflow_id, own_workflow_id FROM apps WHERE user_id = %(user_id)s AND id = %(id)s

-- name: own_workflows
SELECT id FROM workflows WHERE bucket = %(bucket)s ORDER BY created_at DESC, id LIMIT %(limit)s

-- name: latest_version
SELECT id FROM workflow_versions WHERE bucket = %(bucket)s AND workflow_id = %(id)s ORDER BY created_at DESC, id DESC LIMIT 1

-- name: bases
-- By what the app is indexed, and by what it is to be indexed where that is under way.
SELECT a.user_id, a.id, a.first_bucket, a.workflow_id, a.own_workflow_id, r.workflow_id, r.own_workflow_id
  FROM apps a LEFT JOIN reindexes r ON r.bucket = a.first_bucket
 WHERE a.first_bucket = %(bucket)s

-- name: lock_bases
-- Nobody changes them until the transaction ends.
SELECT FROM apps WHERE first_bucket = %(bucket)s FOR UPDATE

-- name: set_workflows
UPDATE apps SET workflow_id = %(workflow)s, own_workflow_id = %(own_workflow)s, modified_at = clock_timestamp()
 WHERE first_bucket = %(bucket)s

-- name: lock_app
SELECT first_bucket, bucket_count, workflow_id, own_workflow_id, default_language, metadata
  FROM apps
 WHERE user_id = %(user_id)s AND id = %(id)s
   FOR UPDATE

-- name: patch_app
UPDATE apps
   SET name = coalesce(%(name)s, name), description = coalesce(%(description)s, description),
       notes = coalesce(%(notes)s, notes), workflow_id = %(workflow)s,
       own_workflow_id = %(own_workflow)s,
       metadata = coalesce(%(metadata)s::jsonb, metadata), visibility = coalesce(%(visibility)s, visibility),
       sample_ms = coalesce(%(sample_ms)s, sample_ms), is_template = coalesce(%(template)s, is_template),
       modified_at = clock_timestamp()
 WHERE user_id = %(user_id)s AND id = %(id)s
RETURNING user_id, id, name, description, notes, default_language, workflow_id, own_workflow_id, metadata, visibility,
          sample_ms, is_template, created_at, modified_at

-- name: delete_buckets
DELETE FROM app_buckets WHERE bucket = ANY(%(buckets)s)

-- name: bucket_tables
SELECT c.relname
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'bucket' AND NOT a.attisdropped
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'app_buckets'
   AND NOT c.relispartition
 ORDER BY c.oid DESC

-- name: delete_app
DELETE FROM apps WHERE user_id = %(user_id)s AND id = %(id)s
