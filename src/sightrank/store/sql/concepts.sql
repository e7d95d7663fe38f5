-- Concepts of an app, and their names in other languages. `{page}` is a LIMIT clause (api/pages.py).

-- name: bucket
SELECT bucket FROM app_buckets WHERE bucket = %(bucket)s

-- name: known
SELECT true AS by_id, id AS key, id FROM concepts WHERE bucket = %(bucket)s AND id = ANY(%(ids)s::text[])
UNION ALL
(SELECT DISTINCT ON (name_folded) false, name_folded, id
   FROM concepts
  WHERE bucket = %(bucket)s AND name_folded = ANY(%(names)s::text[])
  ORDER BY name_folded, created_at, id)

-- name: insert
INSERT INTO concepts (bucket, id, name, name_folded, definition, created_at, modified_at)
SELECT b.bucket, c.id, c.name, c.name_folded, c.definition,
       t.now + c.position * interval '1 us', t.now + c.position * interval '1 us'
  FROM (SELECT bucket FROM app_buckets WHERE bucket = %(bucket)s FOR KEY SHARE) b,
       unnest(%(ids)s::text[], %(names)s::text[], %(folded)s::text[], %(definitions)s::text[])
         WITH ORDINALITY AS c (id, name, name_folded, definition, position),
       (SELECT clock_timestamp() AS now) t
 ORDER BY c.id
ON CONFLICT (bucket, id) DO NOTHING
RETURNING id, name, definition, created_at

-- name: names
SELECT id, name FROM concepts WHERE bucket = %(bucket)s AND id = ANY(%(ids)s::text[])

-- name: lookup
-- Own concepts by id, by name and by translation; `own_name` is the name in the app's language.
SELECT 'id' AS kind, '' AS language, id AS key, id, name_folded AS own_name
  FROM concepts
 WHERE bucket = %(bucket)s AND id = ANY(%(ids)s::text[])
UNION ALL
SELECT 'name', '', name_folded, id, name_folded
  FROM concepts
 WHERE bucket = %(bucket)s AND name_folded = ANY(%(names)s::text[])
UNION ALL
SELECT 'name', l.language, l.name_folded, c.id, c.name_folded
  FROM concept_languages l JOIN concepts c ON c.bucket = l.bucket AND c.id = l.concept_id
 WHERE l.bucket = %(bucket)s AND c.bucket = %(bucket)s AND l.language = ANY(%(languages)s::text[])
   AND l.name_folded = ANY(%(names)s::text[])
 ORDER BY id

-- name: rows
SELECT id, name, definition, created_at FROM concepts WHERE bucket = %(bucket)s AND id = ANY(%(ids)s::text[])

-- name: list
SELECT id, name, definition, created_at
  FROM concepts
 WHERE bucket = %(bucket)s AND (%(id)s = '' OR strpos(lower(id), lower(%(id)s)) > 0)
 ORDER BY created_at, id

-- name: patch
UPDATE concepts c
   SET name = coalesce(p.name, c.name), name_folded = coalesce(p.name_folded, c.name_folded),
       definition = coalesce(p.definition, c.definition), modified_at = clock_timestamp()
  FROM unnest(%(ids)s::text[], %(names)s::text[], %(folded)s::text[], %(definitions)s::text[])
         AS p (id, name, name_folded, definition)
 WHERE c.bucket = %(bucket)s AND c.id = p.id
RETURNING c.id, c.name, c.definition, c.created_at

-- name: lock_for_patch
SELECT id FROM concepts WHERE bucket = %(bucket)s AND id = ANY(%(ids)s::text[]) ORDER BY id FOR UPDATE

-- name: counts
WITH page AS MATERIALIZED (
    SELECT id, name, created_at FROM concepts WHERE bucket = %(bucket)s ORDER BY created_at, id {page}
), counted AS (
    SELECT l.concept_id, i.status, l.value >= 0.5 AS positive, count(DISTINCT l.input_number) AS inputs
      FROM labels l
      JOIN inputs i ON i.bucket = l.bucket AND i.number = l.input_number
     WHERE l.bucket = %(bucket)s AND l.concept_id IN (SELECT id FROM page) AND l.trusted
     GROUP BY l.concept_id, i.status, positive
)
SELECT p.id, p.name, c.status, c.positive, c.inputs
  FROM page p
  LEFT JOIN counted c ON c.concept_id = p.id
 ORDER BY p.created_at, p.id

-- name: search
WITH matched AS (
    SELECT c.id, coalesce(l.name, c.name) AS name, coalesce(l.name_folded, c.name_folded) AS folded,
           coalesce(nullif(l.definition, ''), c.definition) AS definition, c.created_at, l.name IS NOT NULL AS translated
      FROM concepts c
      LEFT JOIN concept_languages l ON l.bucket = c.bucket AND l.concept_id = c.id AND l.language = %(language)s
     WHERE c.bucket = %(bucket)s AND coalesce(l.name_folded, c.name_folded) LIKE %(pattern)s
)
SELECT t.total, t.own, m.id, m.name, m.definition, m.created_at, m.translated
  FROM (SELECT (SELECT count(*) FROM matched) AS total,
               ARRAY(SELECT id FROM concepts
                      WHERE bucket = %(bucket)s AND id = ANY(%(public_ids)s::text[])) AS own) t
  LEFT JOIN (SELECT * FROM matched ORDER BY folded <> %(exact)s, length(folded), folded, id {page}) m ON true
 ORDER BY m.folded <> %(exact)s, length(m.folded), m.folded, m.id

-- name: languages
SELECT language, name, definition
  FROM (SELECT '' AS place, %(default_language)s AS language, name, definition
          FROM concepts
         WHERE bucket = %(bucket)s AND id = %(concept_id)s
         UNION ALL
        SELECT language, language, name, definition
          FROM concept_languages
         WHERE bucket = %(bucket)s AND concept_id = %(concept_id)s) names
 ORDER BY place

-- name: insert_languages
INSERT INTO concept_languages (bucket, concept_id, language, name, name_folded, definition)
SELECT %(bucket)s, %(concept_id)s, n.language, n.name, n.name_folded, n.definition
  FROM unnest(%(languages)s::text[], %(names)s::text[], %(folded)s::text[], %(definitions)s::text[])
         AS n (language, name, name_folded, definition)
 ORDER BY n.language
ON CONFLICT (bucket, concept_id, language) DO NOTHING
RETURNING language

-- name: patch_languages
UPDATE concept_languages l
   SET name = coalesce(n.name, l.name), name_folded = coalesce(n.name_folded, l.name_folded),
       definition = coalesce(n.definition, l.definition)
  FROM unnest(%(languages)s::text[], %(names)s::text[], %(folded)s::text[], %(definitions)s::text[])
         AS n (language, name, name_folded, definition)
 WHERE l.bucket = %(bucket)s AND l.concept_id = %(concept_id)s AND l.language = n.language
RETURNING l.language, l.name, l.definition

-- name: names_in
-- What own concepts are called in a language, '' where they have no name in it, and in the app's own.
SELECT c.id, c.name, coalesce(l.name, '')
  FROM concepts c
       LEFT JOIN concept_languages l ON l.bucket = c.bucket AND l.concept_id = c.id AND l.language = %(language)s
 WHERE c.bucket = %(bucket)s AND c.id = ANY(%(ids)s::text[])
