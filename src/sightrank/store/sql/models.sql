-- name: find
-- A model in the version asked for ('': the latest that is trained, else the latest).
SELECT m.name, m.model_type_id, coalesce(v.id, ''), coalesce(v.status, 21102), coalesce(v.concept_ids, m.concept_ids),
    coalesce(v.params, '{}')
FROM models m LEFT JOIN LATERAL (
    SELECT * FROM model_versions v
    WHERE v.bucket = m.bucket AND v.model_id = m.id AND (%(version_id)s = '' OR v.id = %(version_id)s)
    ORDER BY v.status = 21100 DESC, v.created_at DESC, v.id DESC LIMIT 1
) v ON true
WHERE m.bucket = %(bucket)s AND m.id = %(model_id)s AND (%(version_id)s = '' OR v.id IS NOT NULL)
