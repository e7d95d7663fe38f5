-- name: versions
SELECT version, labels_version FROM app_buckets WHERE bucket = %(bucket)s

-- name: removed_since
-- Beside each area the bucket's version in the same snapshot; one row without an area when none is gone.
SELECT b.version, r.area_id
FROM app_buckets b
LEFT JOIN removals r ON r.bucket = %(bucket)s AND r.version > %(version)s
WHERE b.bucket = %(bucket)s

-- name: latest_labels
SELECT DISTINCT ON (area_id) area_id, value
FROM labels
WHERE bucket = %(bucket)s AND concept_id = ANY(%(concept_ids)s) AND trusted
ORDER BY area_id, modified_at DESC, annotation_id DESC, value DESC

-- name: input_to_rank_by
SELECT number, status FROM inputs WHERE bucket = %(bucket)s AND id = %(id)s

-- name: hits
-- The bucket's versions and, for each hit in order, its input and its annotation: the one named, else the one that speaks
-- for the area (the first a person made, else the first of all). One snapshot, one round trip; hits that are gone are left
-- out, and where none is left one row without a place still tells the versions. What an input-level annotation would say
-- twice, of itself and of its input, comes once; CASE makes a key null, so that nothing is looked up.
SELECT v.version, v.labels_version, f.*
FROM app_buckets v
LEFT JOIN LATERAL (
    SELECT h.place, i.number, i.id, i.created_at, i.modified_at, i.status, i.status_details, i.media, i.url, i.blob,
        i.text_raw, i.width, i.height, i.format, i.color_mode, l.concept_ids, l.concept_values, l.metadata, l.latitude,
        l.longitude, l.data,
        a.input_number, i.id, a.id, a.area_id, r.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
        a.user_id, a.model_id, a.model_version_id, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
        a.longitude, a.annotation_info, a.data, r.box_top, r.box_left, r.box_bottom, r.box_right,
        n.names
    FROM unnest(%(numbers)s::bigint[], %(area_ids)s::bigint[], %(annotation_ids)s::text[])
        WITH ORDINALITY AS h (input_number, area_id, annotation_id, place)
    JOIN inputs i ON i.bucket = %(bucket)s AND i.number = h.input_number
    CROSS JOIN LATERAL (
        SELECT * FROM annotations x
        WHERE x.bucket = %(bucket)s AND x.input_number = h.input_number
            AND (h.annotation_id IS NULL OR x.id = h.annotation_id) AND (h.area_id IS NULL OR x.area_id = h.area_id)
        ORDER BY x.model_version_id <> '', x.created_at, x.id LIMIT 1
    ) a
    LEFT JOIN LATERAL (
        SELECT * FROM annotations x
        WHERE x.bucket = %(bucket)s AND x.input_number = CASE WHEN NOT a.input_level THEN h.input_number END
            AND x.input_level
    ) l ON true
    LEFT JOIN LATERAL (
        SELECT * FROM areas x
        WHERE x.bucket = %(bucket)s AND x.id = CASE WHEN NOT a.input_level THEN a.area_id END
    ) r ON true
    LEFT JOIN LATERAL (
        SELECT jsonb_object_agg(c.id, c.name) AS names FROM concepts c
        WHERE c.bucket = %(bucket)s AND c.id = ANY(a.concept_ids || l.concept_ids)
    ) n ON true
) f ON true
WHERE v.bucket = %(bucket)s
ORDER BY f.place
