-- What people said, as examples to learn from. Numbers travel as one value in network order: rows of many labels would cost
-- the event loop more than the database.

-- name: language
SELECT default_language FROM apps WHERE first_bucket = %(bucket)s

-- name: labels
-- The latest trusted label of each concept on each area of an indexed input, `places` being the columns that the concepts
-- have: area, input, column, value, and whether the area is the whole input.
WITH said AS (
    SELECT DISTINCT ON (c.place, l.area_id) c.place, l.area_id, l.input_number, l.value
    FROM unnest(%(concept_ids)s::text[], %(places)s::int[]) AS c (id, place)
    JOIN labels l ON l.bucket = %(bucket)s AND l.concept_id = c.id
    WHERE l.trusted
    ORDER BY c.place, l.area_id, l.modified_at DESC, l.annotation_id DESC, l.value DESC
)
SELECT string_agg(
    int8send(s.area_id) || int8send(s.input_number) || int4send(s.place) || float4send(s.value)
        || boolsend(r.region_id IS NULL AND r.frame_index IS NULL), ''::bytea
)
FROM said s
JOIN inputs i ON i.bucket = %(bucket)s AND i.number = s.input_number AND i.status = 30000
JOIN areas r ON r.bucket = %(bucket)s AND r.id = s.area_id
WHERE %(dataset_id)s = '' OR EXISTS (
    SELECT FROM dataset_inputs d
    WHERE d.bucket = %(bucket)s AND d.dataset_id = %(dataset_id)s AND d.input_number = s.input_number
)

-- name: labels_of_version
-- As `labels`, of the members of a version of a dataset, as of it: what was said of areas that are gone is not there.
WITH members AS (
    SELECT input_number FROM dataset_inputs
    WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND created_at <= %(as_of)s
    UNION ALL
    SELECT input_number FROM past_dataset_inputs
    WHERE bucket = %(bucket)s AND dataset_id = %(dataset_id)s AND since <= %(as_of)s AND until > %(as_of)s
), spoken AS (
    SELECT a.input_number, a.id, a.area_id, a.modified_at, a.concept_ids, a.concept_values
    FROM members m JOIN annotations a ON a.bucket = %(bucket)s AND a.input_number = m.input_number
    WHERE a.model_version_id = '' AND a.trusted AND a.modified_at <= %(as_of)s
    UNION ALL
    SELECT p.input_number, p.id, p.area_id, p.modified_at, p.concept_ids, p.concept_values
    FROM members m JOIN past_annotations p ON p.bucket = %(bucket)s AND p.input_number = m.input_number
    WHERE p.trusted AND p.modified_at <= %(as_of)s AND p.until > %(as_of)s
), said AS (
    SELECT DISTINCT ON (c.place, s.area_id) c.place, s.area_id, s.input_number, u.value
    FROM spoken s CROSS JOIN LATERAL unnest(s.concept_ids, s.concept_values) AS u (id, value)
    JOIN unnest(%(concept_ids)s::text[], %(places)s::int[]) AS c (id, place) ON c.id = u.id
    WHERE NOT %(filtered)s OR EXISTS (
        SELECT FROM dataset_version_annotations k
        WHERE k.bucket = %(bucket)s AND k.dataset_id = %(dataset_id)s AND k.version_id = %(version_id)s
            AND k.input_number = s.input_number AND k.annotation_id = s.id
    )
    ORDER BY c.place, s.area_id, s.modified_at DESC, s.id DESC, u.value DESC
)
SELECT string_agg(
    int8send(s.area_id) || int8send(s.input_number) || int4send(s.place) || float4send(s.value)
        || boolsend(r.region_id IS NULL AND r.frame_index IS NULL), ''::bytea
)
FROM said s
JOIN inputs i ON i.bucket = %(bucket)s AND i.number = s.input_number AND i.status = 30000
JOIN areas r ON r.bucket = %(bucket)s AND r.id = s.area_id

-- name: others
-- Areas of other inputs, if there are no more than that.
SELECT string_agg(int8send(area_id), ''::bytea) FROM (
    SELECT v.area_id FROM {vectors} v
    WHERE v.bucket = %(bucket)s AND v.input_number <> ALL(%(numbers)s::bigint[])
    ORDER BY v.area_id LIMIT %(limit)s
) chosen

-- name: background
-- Some areas of other inputs, up to a number, from all over the app and the same ones each time: where it has millions, only
-- a few thousand rows are read. Ids of areas are shared by all apps, so an app's lie in heaps with gaps between them. What lies
-- between its first and its last is cut into equal cells. Those that have any share places between their first and their last
-- (the cell number n of m has those from n/m to (n+1)/m of all), and at each place the next few are taken, as some may be of
-- inputs that are not wanted.
WITH range AS (
    SELECT first, (last - first) / %(limit)s::bigint + 1 AS width
    FROM (
        SELECT (SELECT area_id FROM {vectors} v WHERE bucket = %(bucket)s ORDER BY area_id LIMIT 1) AS first,
            (SELECT area_id FROM {vectors} v WHERE bucket = %(bucket)s ORDER BY area_id DESC LIMIT 1) AS last
    ) ends
), cells AS MATERIALIZED (
    SELECT head.area_id AS first, tail.area_id - head.area_id + 1 AS width, row_number() OVER (ORDER BY i) - 1 AS number,
        count(*) OVER () AS count
    FROM range r CROSS JOIN generate_series(0, %(limit)s::bigint - 1) i CROSS JOIN LATERAL (
        SELECT area_id FROM {vectors} v WHERE bucket = %(bucket)s AND area_id >= r.first + i * r.width
        ORDER BY area_id LIMIT 1
    ) head CROSS JOIN LATERAL (
        SELECT area_id FROM {vectors} v WHERE bucket = %(bucket)s AND area_id < r.first + (i + 1) * r.width
        ORDER BY area_id DESC LIMIT 1
    ) tail
    WHERE head.area_id < r.first + (i + 1) * r.width
)
SELECT string_agg(int8send(area_id), ''::bytea) FROM (
    SELECT DISTINCT hashint8(near.area_id), near.area_id
    FROM cells c CROSS JOIN LATERAL generate_series(
        (c.number * %(limit)s::bigint + c.count - 1) / c.count,
        ((c.number + 1) * %(limit)s::bigint + c.count - 1) / c.count - 1
    ) place CROSS JOIN LATERAL (
        SELECT area_id, input_number FROM {vectors} v
        WHERE bucket = %(bucket)s
            AND area_id >= c.first + place * c.count %% %(limit)s::bigint * c.width / %(limit)s::bigint
        ORDER BY area_id LIMIT 4
    ) near
    WHERE near.input_number <> ALL(%(numbers)s::bigint[])
    ORDER BY hashint8(near.area_id), near.area_id LIMIT %(limit)s
) chosen
