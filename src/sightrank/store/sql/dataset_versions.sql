-- Versions of datasets: a dataset as of an instant. Whoever reads members or annotations of a version gives its `as_of`.

-- name: latest
-- Of each of these datasets the newest version.
SELECT DISTINCT ON (dataset_id) dataset_id, id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty,
    status, details, metrics, created_at, modified_at
FROM dataset_versions
WHERE bucket = %(bucket)s AND dataset_id = ANY(%(ids)s) AND (NOT %(public_only)s OR visibility = 50)
ORDER BY dataset_id, created_at DESC, id DESC

-- name: await_writers
-- Waits until nobody says something or changes who is in a dataset; those that come meanwhile wait until this one ends.
SELECT pg_advisory_xact_lock(hashtextextended('versions', %(bucket)s))

-- name: members
-- The next members of a version after the one named, in the order in which they joined; their number is put in, and each
-- part is cut to it, so that no more is read than is asked for.
SELECT i.number, i.id, m.joined_at
FROM (
    (
        SELECT d.input_number, d.created_at AS joined_at FROM dataset_inputs d
        WHERE d.bucket = %(bucket)s AND d.dataset_id = %(dataset_id)s AND d.created_at <= %(as_of)s
            AND (d.created_at, d.input_number) > (%(after)s, %(after_number)s)
            AND (NOT %(ignore_empty)s OR EXISTS (
                SELECT FROM dataset_version_annotations a
                WHERE a.bucket = %(bucket)s AND a.dataset_id = %(dataset_id)s AND a.version_id = %(version_id)s
                    AND a.input_number = d.input_number
            ))
        ORDER BY d.created_at, d.input_number LIMIT {limit}
    ) UNION ALL (
        SELECT d.input_number, d.since FROM past_dataset_inputs d
        WHERE d.bucket = %(bucket)s AND d.dataset_id = %(dataset_id)s AND d.since <= %(as_of)s AND d.until > %(as_of)s
            AND (d.since, d.input_number) > (%(after)s, %(after_number)s)
            AND (NOT %(ignore_empty)s OR EXISTS (
                SELECT FROM dataset_version_annotations a
                WHERE a.bucket = %(bucket)s AND a.dataset_id = %(dataset_id)s AND a.version_id = %(version_id)s
                    AND a.input_number = d.input_number
            ))
        ORDER BY d.since, d.input_number LIMIT {limit}
    )
) m
JOIN inputs i ON i.bucket = %(bucket)s AND i.number = m.input_number
ORDER BY m.joined_at, i.number LIMIT {limit}

-- name: annotations
-- What people had said of these inputs, as it was then: the columns of api.records.AnnotationRecord.
SELECT a.input_number, i.id, a.id, a.area_id, a.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
    a.user_id, a.model_id, a.model_version_id, false, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
    a.longitude, a.annotation_info, a.data, a.box_top, a.box_left, a.box_bottom, a.box_right
FROM (
    SELECT a.input_number, a.id, a.area_id, r.region_id, a.created_at, a.modified_at, a.status, a.input_level, a.trusted,
        a.user_id, a.model_id, a.model_version_id, a.task_id, a.concept_ids, a.concept_values, a.metadata, a.latitude,
        a.longitude, a.annotation_info, a.data, r.box_top, r.box_left, r.box_bottom, r.box_right
    FROM annotations a JOIN areas r ON r.bucket = %(bucket)s AND r.id = a.area_id
    WHERE a.bucket = %(bucket)s AND a.input_number = ANY(%(numbers)s) AND a.model_version_id = ''
        AND a.modified_at <= %(as_of)s
    UNION ALL
    SELECT p.input_number, p.id, p.area_id, p.region_id, p.created_at, p.modified_at, p.status, p.input_level, p.trusted,
        p.user_id, p.model_id, p.model_version_id, p.task_id, p.concept_ids, p.concept_values, p.metadata, p.latitude,
        p.longitude, p.annotation_info, p.data, p.box_top, p.box_left, p.box_bottom, p.box_right
    FROM past_annotations p
    WHERE p.bucket = %(bucket)s AND p.input_number = ANY(%(numbers)s) AND p.modified_at <= %(as_of)s
        AND p.until > %(as_of)s
) a
JOIN inputs i ON i.bucket = %(bucket)s AND i.number = a.input_number
WHERE NOT %(filtered)s OR EXISTS (
    SELECT FROM dataset_version_annotations k
    WHERE k.bucket = %(bucket)s AND k.dataset_id = %(dataset_id)s AND k.version_id = %(version_id)s
        AND k.input_number = a.input_number AND k.annotation_id = a.id
)
ORDER BY a.input_number, a.created_at, a.id

-- name: read
SELECT id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at
FROM dataset_versions
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(id)s AND (NOT %(public_only)s OR visibility = 50)

-- name: as_of
SELECT as_of, filter IS NOT NULL, ignore_empty, status FROM dataset_versions
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(id)s

-- name: list
-- Newest first; the page is appended.
SELECT id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at
FROM dataset_versions
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND (NOT %(public_only)s OR visibility = 50)
ORDER BY created_at DESC, id DESC

-- name: between_versions
SELECT between_versions(%(bucket)s)

-- name: last_said
-- The last instant that anybody's words or memberships bear: a process whose clock is ahead may have written them.
SELECT greatest(
    b.versions_as_of,
    (SELECT modified_at FROM annotations
        WHERE bucket = %(bucket)s AND model_version_id = '' ORDER BY modified_at DESC LIMIT 1),
    (SELECT until FROM past_annotations WHERE bucket = %(bucket)s ORDER BY until DESC LIMIT 1),
    (SELECT created_at FROM dataset_inputs WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s
        ORDER BY created_at DESC LIMIT 1),
    (SELECT max(until) FROM past_dataset_inputs WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s)
)
FROM app_buckets b WHERE b.bucket = %(bucket)s

-- name: set_as_of
UPDATE app_buckets SET versions_as_of = %(as_of)s WHERE bucket = %(bucket)s

-- name: filters
SELECT id, message FROM annotation_filters WHERE bucket = %(bucket)s AND id = ANY(%(ids)s)

-- name: insert
INSERT INTO dataset_versions (
    bucket, dataset_id, id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, created_at, modified_at
)
VALUES (
    %(bucket)s, %(dataset_id)s, %(id)s, %(as_of)s, %(description)s, %(metadata)s, %(visibility)s, %(filter_id)s, %(filter)s,
    %(ignore_empty)s, %(as_of)s, %(as_of)s
)
ON CONFLICT DO NOTHING
RETURNING id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at

-- name: lock_to_patch
SELECT id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at
FROM dataset_versions WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = ANY(%(ids)s)
ORDER BY id FOR UPDATE

-- name: patch
UPDATE dataset_versions
SET description = %(description)s, metadata = %(metadata)s, visibility = %(visibility)s, modified_at = clock_timestamp()
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(id)s
RETURNING id, as_of, description, metadata, visibility, filter_id, filter, ignore_empty, status, details, metrics, created_at,
    modified_at

-- name: delete
DELETE FROM dataset_versions WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = ANY(%(ids)s)

-- name: forget_memberships
-- Those that ended and that no version needs any more.
DELETE FROM past_dataset_inputs m
WHERE m.bucket = %(bucket)s AND m.dataset_id = %(dataset_id)s AND NOT EXISTS (
    SELECT FROM dataset_versions v
    WHERE v.bucket = %(bucket)s AND v.dataset_id = %(dataset_id)s AND v.as_of >= m.since AND v.as_of < m.until
)

-- name: groups
-- In the order in which they were counted; the page is appended.
SELECT parent_path, type, value, metrics FROM dataset_version_groups
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND version_id = %(version_id)s
    AND (cardinality(%(types)s::int[]) = 0 OR type = ANY(%(types)s::int[]))
    AND (cardinality(%(parent_paths)s::text[]) = 0 OR parent_path = ANY(%(parent_paths)s::text[]))
    AND (%(values)s::jsonb IS NULL OR %(values)s::jsonb @> jsonb_build_array(value))
ORDER BY place

-- name: to_count
-- The version that waits longest for being counted, of all apps: few wait.
SELECT v.bucket, v.dataset_id, v.id, v.as_of, v.filter, v.ignore_empty, a.user_id, a.default_language
FROM dataset_versions v JOIN apps a ON a.first_bucket = v.bucket
WHERE v.status = 64005 ORDER BY v.created_at, v.id LIMIT 1

-- name: hold_to_count
SELECT FROM dataset_versions
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(version_id)s AND status = 64005 FOR NO KEY UPDATE

-- name: keep_annotations
-- What a filter left of a version, as far as it says anything, which an input's own text does not; the filter is put in.
INSERT INTO dataset_version_annotations (bucket, dataset_id, version_id, input_number, annotation_id)
SELECT {bucket}, {dataset_id}, {version_id}, s.input_number, s.id
FROM ({found}) AS f (input_number, id)
JOIN (
    SELECT input_number, id, input_level, concept_ids, metadata, latitude, annotation_info, data FROM annotations
    WHERE bucket = {bucket} AND model_version_id = '' AND modified_at <= {as_of}
    UNION ALL
    SELECT input_number, id, input_level, concept_ids, metadata, latitude, annotation_info, data FROM past_annotations
    WHERE bucket = {bucket} AND modified_at <= {as_of} AND until > {as_of}
) s ON s.input_number = f.input_number AND s.id = f.id
WHERE (
    cardinality(s.concept_ids) > 0 OR s.metadata IS NOT NULL OR s.latitude IS NOT NULL OR s.annotation_info IS NOT NULL
    OR (CASE WHEN s.input_level THEN s.data - 'text' ELSE s.data END) <> jsonb_build_object()
) AND (
    EXISTS (
        SELECT FROM dataset_inputs m
        WHERE m.bucket = {bucket} AND m.dataset_id = {dataset_id} AND m.input_number = s.input_number
            AND m.created_at <= {as_of}
    ) OR EXISTS (
        SELECT FROM past_dataset_inputs m
        WHERE m.bucket = {bucket} AND m.dataset_id = {dataset_id} AND m.input_number = s.input_number
            AND m.since <= {as_of} AND m.until > {as_of}
    )
)

-- name: count
-- What is in a portion of a version's members, group by group: the type of the group, its value, and sums in the order of
-- ingest.dataset_counts.METRICS. A region that several annotations are about counts once, a concept once for each place.
WITH spoken AS (
    SELECT a.input_number, a.id, a.area_id, a.input_level, r.region_id IS NOT NULL AS is_region,
        r.frame_index IS NOT NULL AS is_frame, a.data #> '{regions,0,region_info}' AS info, a.concept_ids, a.concept_values,
        a.metadata, a.latitude, r.box_top, r.box_left, r.box_bottom, r.box_right
    FROM annotations a JOIN areas r ON r.bucket = %(bucket)s AND r.id = a.area_id
    WHERE a.bucket = %(bucket)s AND a.input_number = ANY(%(numbers)s::bigint[]) AND a.model_version_id = '' AND a.trusted
        AND a.modified_at <= %(as_of)s
    UNION ALL
    SELECT p.input_number, p.id, p.area_id, p.input_level, p.region_id IS NOT NULL, coalesce(p.data ? 'frames', false),
        p.data #> '{regions,0,region_info}', p.concept_ids, p.concept_values, p.metadata, p.latitude, p.box_top, p.box_left,
        p.box_bottom, p.box_right
    FROM past_annotations p
    WHERE p.bucket = %(bucket)s AND p.input_number = ANY(%(numbers)s::bigint[]) AND p.trusted AND p.modified_at <= %(as_of)s
        AND p.until > %(as_of)s
), said AS MATERIALIZED (
    SELECT s.* FROM spoken s WHERE NOT %(filtered)s OR EXISTS (
        SELECT FROM dataset_version_annotations k
        WHERE k.bucket = %(bucket)s AND k.dataset_id = %(dataset_id)s AND k.version_id = %(version_id)s
            AND k.input_number = s.input_number AND k.annotation_id = s.id
    )
), places AS MATERIALIZED (
    SELECT input_number, area_id, bool_or(is_region)::int AS region, bool_or(is_frame)::int AS frame,
        coalesce(bool_or(info ? 'bounding_box'), false)::int AS box, coalesce(bool_or(info ? 'polygon'), false)::int AS polygon,
        coalesce(bool_or(info ? 'point'), false)::int AS point, coalesce(bool_or(info ? 'mask'), false)::int AS mask,
        coalesce(bool_or(box_top < 0.5 AND box_left < 0.5), false)::int AS top_left,
        coalesce(bool_or(box_top < 0.5 AND box_right >= 0.5), false)::int AS top_right,
        coalesce(bool_or(box_bottom >= 0.5 AND box_left < 0.5), false)::int AS bottom_left,
        coalesce(bool_or(box_bottom >= 0.5 AND box_right >= 0.5), false)::int AS bottom_right
    FROM said GROUP BY input_number, area_id
), tags AS MATERIALIZED (
    SELECT DISTINCT s.input_number, s.area_id, c.id
    FROM said s CROSS JOIN LATERAL unnest(s.concept_ids, s.concept_values) AS c (id, value) WHERE c.value >= 0.5
), of_inputs AS MATERIALIZED (
    SELECT i.number, i.media, CASE WHEN i.width > 0 THEN i.width::bigint * i.height / 100000 * 100000 END AS pixels,
        CASE WHEN i.height > 0 THEN floor(i.width * 10.0 / i.height) / 10 END AS aspect,
        coalesce(t.concepts, 0) AS concepts, coalesce(t.input_tags, 0) AS input_tags,
        coalesce(t.region_tags, 0) AS region_tags, coalesce(t.frame_tags, 0) AS frame_tags,
        coalesce(m.metadata, 0) AS metadata, coalesce(m.geo, 0) AS geo,
        coalesce(p.regions, 0) AS regions, coalesce(p.frames, 0) AS frames, coalesce(p.boxes, 0) AS boxes,
        coalesce(p.polygons, 0) AS polygons, coalesce(p.points, 0) AS points, coalesce(p.masks, 0) AS masks,
        coalesce(p.top_left, 0) AS top_left, coalesce(p.top_right, 0) AS top_right,
        coalesce(p.bottom_left, 0) AS bottom_left, coalesce(p.bottom_right, 0) AS bottom_right
    FROM inputs i
    LEFT JOIN (
        SELECT t.input_number, count(DISTINCT t.id) AS concepts,
            count(*) FILTER (WHERE p.region = 0 AND p.frame = 0) AS input_tags, sum(p.region) AS region_tags,
            sum(p.frame) AS frame_tags
        FROM tags t JOIN places p ON p.input_number = t.input_number AND p.area_id = t.area_id GROUP BY t.input_number
    ) t ON t.input_number = i.number
    LEFT JOIN (
        SELECT input_number, max((metadata <> '{}')::int) AS metadata, max((latitude IS NOT NULL)::int) AS geo
        FROM said WHERE input_level GROUP BY input_number
    ) m ON m.input_number = i.number
    LEFT JOIN (
        SELECT input_number, sum(region) AS regions, sum(frame) AS frames, sum(box) AS boxes, sum(polygon) AS polygons,
            sum(point) AS points, sum(mask) AS masks, sum(top_left) AS top_left, sum(top_right) AS top_right,
            sum(bottom_left) AS bottom_left, sum(bottom_right) AS bottom_right
        FROM places GROUP BY input_number
    ) p ON p.input_number = i.number
    WHERE i.bucket = %(bucket)s AND i.number = ANY(%(numbers)s::bigint[])
)
SELECT CASE GROUPING(media, concepts, boxes, polygons, points, masks, pixels, aspect)
        WHEN 255 THEN 0 WHEN 127 THEN 2 WHEN 191 THEN 11 WHEN 223 THEN 20 WHEN 239 THEN 21 WHEN 247 THEN 22 WHEN 251 THEN 23
        WHEN 253 THEN 30 ELSE 31
    END,
    CASE GROUPING(media, concepts, boxes, polygons, points, masks, pixels, aspect)
        WHEN 255 THEN '"total"' WHEN 127 THEN to_jsonb(media) WHEN 191 THEN to_jsonb(concepts) WHEN 223 THEN to_jsonb(boxes)
        WHEN 239 THEN to_jsonb(polygons) WHEN 247 THEN to_jsonb(points) WHEN 251 THEN to_jsonb(masks)
        WHEN 253 THEN to_jsonb(pixels) ELSE to_jsonb(aspect)
    END,
    ARRAY[
        count(*), count(*) FILTER (WHERE concepts = 0), sum(metadata), sum(geo), sum(regions), sum(boxes), sum(polygons),
        sum(points), sum(masks), count(*) FILTER (WHERE regions > 0), 0, sum(frames), count(*) FILTER (WHERE frames > 0),
        sum(input_tags), sum(region_tags), sum(frame_tags), sum(top_left), sum(top_right), sum(bottom_left), sum(bottom_right)
    ]::bigint[]
FROM of_inputs
GROUP BY GROUPING SETS ((), (media), (concepts), (boxes), (polygons), (points), (masks), (pixels), (aspect))
UNION ALL
SELECT 10, to_jsonb(t.id), ARRAY[
        count(DISTINCT t.input_number), 0, count(DISTINCT t.input_number) FILTER (WHERE i.metadata > 0),
        count(DISTINCT t.input_number) FILTER (WHERE i.geo > 0), sum(p.region), sum(p.box), sum(p.polygon), sum(p.point),
        sum(p.mask), count(DISTINCT t.input_number) FILTER (WHERE p.region > 0), 0, sum(p.frame),
        count(DISTINCT t.input_number) FILTER (WHERE p.frame > 0), count(*) FILTER (WHERE p.region = 0 AND p.frame = 0),
        sum(p.region), sum(p.frame), sum(p.top_left), sum(p.top_right), sum(p.bottom_left), sum(p.bottom_right)
    ]::bigint[]
FROM tags t
JOIN places p ON p.input_number = t.input_number AND p.area_id = t.area_id
JOIN of_inputs i ON i.number = t.input_number
GROUP BY t.id

-- name: insert_groups
INSERT INTO dataset_version_groups (bucket, dataset_id, version_id, place, parent_path, type, value, metrics)
SELECT %(bucket)s, %(dataset_id)s, %(version_id)s, g.place, '', g.type, g.value, g.metrics
FROM jsonb_to_recordset(%(groups)s) AS g (place bigint, type int, value jsonb, metrics jsonb)

-- name: counted
UPDATE dataset_versions SET status = 64015, metrics = %(metrics)s
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(version_id)s

-- name: failed
UPDATE dataset_versions SET status = 64025, details = %(details)s
WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND id = %(version_id)s AND status = 64005
