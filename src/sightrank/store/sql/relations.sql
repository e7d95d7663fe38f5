-- Relations between concepts, each stored once: a hyponym edge from the narrower to the wider concept, a synonym edge
-- with the smaller id first. Shown the other way round, a hyponym edge says hypernym.

-- name: lock_graphs
-- Whoever adds edges waits for whoever does so already, so that two calls cannot close a circle between them.
SELECT 1 FROM app_buckets WHERE bucket = %(bucket)s FOR NO KEY UPDATE

-- name: insert
-- What the app has already is left as it is.
INSERT INTO concept_relations (
    bucket, id, subject_id, object_id, predicate, knowledge_graph_id, visibility, created_at
)
SELECT %(bucket)s, r.id, r.subject_id, r.object_id, r.predicate, r.knowledge_graph_id, r.visibility,
    t.now + r.place * interval '1 us'
FROM jsonb_to_recordset(%(rows)s) AS r (
    place int, id text, subject_id text, object_id text, predicate text, knowledge_graph_id text, visibility int
), (SELECT clock_timestamp() AS now) t
ORDER BY r.place
ON CONFLICT DO NOTHING

-- name: stored
-- Those of these edges that the app has.
SELECT c.id, c.subject_id, c.object_id, c.predicate, c.knowledge_graph_id, c.visibility
FROM jsonb_to_recordset(%(rows)s) AS r (subject_id text, object_id text, predicate text, knowledge_graph_id text)
JOIN concept_relations c ON c.bucket = %(bucket)s AND c.knowledge_graph_id = r.knowledge_graph_id
    AND c.predicate = r.predicate AND c.subject_id = r.subject_id AND c.object_id = r.object_id

-- name: circle
-- A concept of these edges from which the way up leads back to it, within one graph.
WITH RECURSIVE above (graph, start, reached) AS (
    SELECT r.knowledge_graph_id, r.subject_id, r.object_id
    FROM jsonb_to_recordset(%(rows)s) AS r (subject_id text, object_id text, predicate text, knowledge_graph_id text)
    WHERE r.predicate = 'hyponym'
    UNION
    SELECT a.graph, a.start, c.object_id
    FROM above a JOIN concept_relations c ON c.bucket = %(bucket)s AND c.knowledge_graph_id = a.graph
        AND c.predicate = 'hyponym' AND c.subject_id = a.reached
    WHERE a.reached <> a.start
)
SELECT start FROM above WHERE reached = start LIMIT 1

-- name: list
-- Each edge once; the page is appended.
SELECT id, subject_id, object_id, predicate, knowledge_graph_id, visibility
FROM concept_relations
WHERE bucket = %(bucket)s AND (NOT %(public_only)s OR visibility = 50)
    AND (%(predicate)s = '' OR predicate = %(predicate)s)
    AND (%(knowledge_graph_id)s = '' OR knowledge_graph_id = %(knowledge_graph_id)s)
ORDER BY created_at, id

-- name: list_of_concept
-- The edges of a concept as seen from it; the page is appended.
SELECT id, subject_id, object_id, predicate, knowledge_graph_id, visibility
FROM (
    SELECT id, subject_id, object_id, predicate, knowledge_graph_id, visibility, created_at
    FROM concept_relations
    WHERE bucket = %(bucket)s AND subject_id = %(concept_id)s
    UNION ALL
    SELECT id, object_id, subject_id, CASE predicate WHEN 'hyponym' THEN 'hypernym' ELSE predicate END,
        knowledge_graph_id, visibility, created_at
    FROM concept_relations
    WHERE bucket = %(bucket)s AND object_id = %(concept_id)s
) edges
WHERE (NOT %(public_only)s OR visibility = 50) AND (%(predicate)s = '' OR predicate = %(predicate)s)
    AND (%(knowledge_graph_id)s = '' OR knowledge_graph_id = %(knowledge_graph_id)s)
ORDER BY created_at, id

-- name: any
SELECT 1 FROM concept_relations
WHERE bucket = %(bucket)s AND (%(concept_id)s = '' OR subject_id = %(concept_id)s OR object_id = %(concept_id)s)
LIMIT 1

-- name: lock_to_delete
-- In order of id, so that two calls cannot wait for each other.
SELECT id FROM concept_relations
WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)
    AND (%(concept_id)s = '' OR subject_id = %(concept_id)s OR object_id = %(concept_id)s)
ORDER BY id FOR UPDATE

-- name: delete
DELETE FROM concept_relations WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: graphs
SELECT id FROM knowledge_graphs WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: list_graphs
SELECT id, name, description, examples_app_id, sampled_examples_app_id
FROM knowledge_graphs WHERE bucket = %(bucket)s ORDER BY created_at, id

-- name: insert_graphs
-- In order of id, so that two calls cannot wait for each other.
INSERT INTO knowledge_graphs (bucket, id, name, description, examples_app_id, sampled_examples_app_id, created_at)
SELECT %(bucket)s, r.id, r.name, r.description, r.examples_app_id, r.sampled_examples_app_id,
    t.now + r.place * interval '1 us'
FROM jsonb_to_recordset(%(rows)s) AS r (
    place int, id text, name text, description text, examples_app_id text, sampled_examples_app_id text
), (SELECT clock_timestamp() AS now) t
ORDER BY r.id
ON CONFLICT DO NOTHING
RETURNING id
