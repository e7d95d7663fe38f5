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

-- name: background
-- As many areas of other inputs as are asked for, the same ones each time.
SELECT string_agg(int8send(area_id), ''::bytea) FROM (
    SELECT v.area_id FROM {vectors} v
    WHERE v.bucket = %(bucket)s AND v.input_number <> ALL(%(numbers)s::bigint[])
    ORDER BY hashint8(v.area_id), v.area_id LIMIT %(limit)s
) chosen
