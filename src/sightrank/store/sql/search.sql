-- name: versions
SELECT version, labels_version FROM app_buckets WHERE bucket = %(bucket)s

-- name: removed_since
-- Beside each area the bucket's version in the same snapshot; one row without an area when none is gone. The values are put
-- in, because the statement is sent together with another one, which takes no parameters.
SELECT b.version, r.area_id
FROM app_buckets b
LEFT JOIN removals r ON r.bucket = {bucket} AND r.version > {version}
WHERE b.bucket = {bucket}

-- name: latest_labels
SELECT DISTINCT ON (area_id) area_id, value
FROM labels
WHERE bucket = %(bucket)s AND concept_id = ANY(%(concept_ids)s) AND trusted
ORDER BY area_id, modified_at DESC, annotation_id DESC, value DESC

-- name: detections
-- How surely any version of a detector found something in an area; where one area was found as several of these concepts,
-- the surest. A version is of one model, and an app has predictions of few: they are found by one look into the index each.
-- Versions of the app's own models do not count, whatever the models are called and whether they are there still.
WITH RECURSIVE versions AS (
    (
        SELECT model_version_id, model_id FROM annotations
        WHERE bucket = %(bucket)s AND model_version_id <> '' ORDER BY model_version_id LIMIT 1
    )
    UNION ALL
    SELECT following.model_version_id, following.model_id
    FROM versions v CROSS JOIN LATERAL (
        SELECT model_version_id, model_id FROM annotations
        WHERE bucket = %(bucket)s AND model_version_id <> '' AND model_version_id > v.model_version_id
        ORDER BY model_version_id LIMIT 1
    ) following
)
SELECT a.area_id, max(c.value)
FROM versions v
JOIN annotations a ON a.bucket = %(bucket)s AND a.model_version_id <> '' AND a.model_version_id = v.model_version_id
CROSS JOIN LATERAL unnest(a.concept_ids, a.concept_values) AS c (concept_id, value)
WHERE v.model_id = %(model_id)s AND NOT a.own_model AND c.concept_id = ANY(%(concept_ids)s)
GROUP BY a.area_id

-- name: detections_since
-- The same for areas whose vectors are newer; null where nothing is found in them.
SELECT v.area_id, (
    SELECT max(c.value)
    FROM annotations a CROSS JOIN LATERAL unnest(a.concept_ids, a.concept_values) AS c (concept_id, value)
    WHERE a.bucket = %(bucket)s AND a.area_id = v.area_id AND a.model_id = %(model_id)s
        AND NOT a.own_model AND c.concept_id = ANY(%(concept_ids)s)
)
FROM {vectors} v WHERE v.bucket = %(bucket)s AND v.version > %(version)s

-- name: input_to_rank_by
SELECT number, status FROM inputs WHERE bucket = %(bucket)s AND id = %(id)s

-- name: hits
-- The bucket's versions, the app's workflow and, for each hit with its place, its input and its annotation: the one named, else
-- the one that speaks for the area (the first a person made, else the first of all). One snapshot, one round trip; hits that
-- are gone are left out, and where none is left one row without a place still tells the versions. What an input-level
-- annotation would say twice, of itself and of its input, comes once; CASE makes a key null, so that nothing is looked up.
SELECT v.version, v.labels_version, w.workflow_id, f.*
FROM app_buckets v
LEFT JOIN apps w ON w.first_bucket = v.bucket
LEFT JOIN LATERAL (
    SELECT h.place, i.number, i.id, i.created_at, i.modified_at, i.status, i.status_details, i.media, i.url, i.blob,
        i.text_raw, i.width, i.height, i.format, i.color_mode, i.duration_ms, l.concept_ids, l.concept_values, l.metadata,
        l.latitude, l.longitude, l.data,
        a.input_number, i.id, a.id, a.area_id, r.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
        a.user_id, a.model_id, a.model_version_id, a.own_model, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
        a.longitude, a.annotation_info, a.data, r.box_top, r.box_left, r.box_bottom, r.box_right,
        n.ids, n.names
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
        SELECT array_agg(c.id) AS ids, array_agg(c.name) AS names FROM concepts c
        WHERE c.bucket = %(bucket)s AND c.id = ANY(a.concept_ids || l.concept_ids)
    ) n ON true
) f ON true
WHERE v.bucket = %(bucket)s

-- name: hits_as_of
-- As `hits`, but with the annotations of a time: versions that were valid then, also of areas that are gone, whose place
-- the whole image takes. Where no annotation is named and the area had none, one that came later speaks for it. Inputs and
-- what they say are those of now.
SELECT v.version, v.labels_version, w.workflow_id, f.*
FROM app_buckets v
LEFT JOIN apps w ON w.first_bucket = v.bucket
LEFT JOIN LATERAL (
    SELECT h.place, i.number, i.id, i.created_at, i.modified_at, i.status, i.status_details, i.media, i.url, i.blob,
        i.text_raw, i.width, i.height, i.format, i.color_mode, i.duration_ms, l.concept_ids, l.concept_values, l.metadata,
        l.latitude, l.longitude, l.data,
        h.input_number, i.id, a.id, a.area_id, a.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
        a.user_id, a.model_id, a.model_version_id, a.own_model, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
        a.longitude, a.annotation_info, a.data, a.box_top, a.box_left, a.box_bottom, a.box_right,
        n.ids, n.names
    FROM unnest(%(numbers)s::bigint[], %(area_ids)s::bigint[], %(annotation_ids)s::text[])
        WITH ORDINALITY AS h (input_number, area_id, annotation_id, place)
    JOIN inputs i ON i.bucket = %(bucket)s AND i.number = h.input_number
    CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT x.id, x.area_id, x.created_at, x.modified_at, x.status, x.input_level, x.trusted, x.user_id, x.model_id,
                x.model_version_id, x.own_model, x.task_id, x.concept_ids, x.concept_values, x.metadata, x.latitude, x.longitude,
                x.annotation_info, x.data, r.region_id, r.box_top, r.box_left, r.box_bottom, r.box_right,
                x.modified_at > %(as_of)s AS is_later
            FROM annotations x
            JOIN areas r ON r.bucket = %(bucket)s AND r.id = x.area_id
            WHERE x.bucket = %(bucket)s AND x.input_number = h.input_number
            UNION ALL
            SELECT p.id, coalesce(r.id, w.id), p.created_at, p.modified_at, p.status, p.input_level, p.trusted, p.user_id,
                p.model_id, p.model_version_id, false, p.task_id, p.concept_ids, p.concept_values, p.metadata, p.latitude,
                p.longitude, p.annotation_info, p.data, p.region_id, p.box_top, p.box_left, p.box_bottom, p.box_right,
                false
            FROM past_annotations p
            LEFT JOIN areas r ON r.bucket = %(bucket)s AND r.id = p.area_id
            LEFT JOIN areas w ON w.bucket = %(bucket)s AND w.input_number = p.input_number AND w.region_id IS NULL
                AND w.frame_index IS NULL
            WHERE p.bucket = %(bucket)s AND p.input_number = h.input_number
                AND p.modified_at <= %(as_of)s AND p.until > %(as_of)s
        ) x
        WHERE (x.id = h.annotation_id AND NOT x.is_later)
            OR (h.annotation_id IS NULL AND (h.area_id IS NULL OR x.area_id = h.area_id))
        ORDER BY x.is_later, x.model_version_id <> '', x.created_at, x.id LIMIT 1
    ) a
    LEFT JOIN annotations l ON l.bucket = %(bucket)s AND l.input_number = h.input_number AND l.input_level
    LEFT JOIN LATERAL (
        SELECT array_agg(c.id) AS ids, array_agg(c.name) AS names FROM concepts c
        WHERE c.bucket = %(bucket)s AND c.id = ANY(a.concept_ids || l.concept_ids)
    ) n ON true
) f ON true
WHERE v.bucket = %(bucket)s

-- name: concept_name
-- What the first of these concepts that the app has is called.
SELECT name FROM concepts WHERE bucket = %(bucket)s AND id = ANY(%(ids)s) ORDER BY array_position(%(ids)s, id) LIMIT 1
