-- name: synonyms
-- What the app's concepts are synonyms of: for each predicted concept the app's own ones.
SELECT e.predicted, e.own
FROM (
    SELECT subject_id AS predicted, object_id AS own, knowledge_graph_id, created_at, id FROM concept_relations
    WHERE bucket = %(bucket)s AND predicate = 'synonym'
    UNION ALL
    SELECT object_id, subject_id, knowledge_graph_id, created_at, id FROM concept_relations
    WHERE bucket = %(bucket)s AND predicate = 'synonym'
) e
JOIN concepts c ON c.bucket = %(bucket)s AND c.id = e.own
WHERE %(knowledge_graph_id)s = '' OR e.knowledge_graph_id = %(knowledge_graph_id)s
ORDER BY e.created_at, e.id

-- name: labelled_concepts
SELECT DISTINCT concept_id FROM labels WHERE bucket = %(bucket)s AND trusted ORDER BY concept_id

-- name: versions
SELECT version, labels_version FROM app_buckets WHERE bucket = %(bucket)s

-- name: nodes
-- Of the version asked for ('': the latest).
SELECT id, nodes FROM workflow_versions
WHERE bucket = %(bucket)s AND workflow_id = %(workflow_id)s AND (%(version_id)s = '' OR id = %(version_id)s)
ORDER BY created_at DESC, id DESC LIMIT 1
