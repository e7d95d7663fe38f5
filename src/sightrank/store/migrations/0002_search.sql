-- What searching needs beside ranking: keys by which filters find annotations, what annotations said before they were
-- changed, saved searches, and what datasets and concepts are besides their names.

-- Filters ---------------------------------------------------------------------------------------------------------------

-- Hashes of everything that a JSON value contains: each path, and each path with its scalar. A value that contains another
-- (@>) has all of its hashes, so an index over them finds it; the bucket is the seed, so no app meets another's rows.
-- Numbers are hashed without trailing zeros, because 1 and 1.0 are equal. `ends`: only the hashes of paths that lead no
-- further, which take the others along; asking for these alone, PostgreSQL estimates well how many rows there are.
CREATE FUNCTION json_keys(bucket bigint, root text, document jsonb, ends boolean DEFAULT false) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    WITH RECURSIVE node (path, value) AS (
        SELECT root, document
        UNION ALL
        SELECT node.path || child.step, child.value
        FROM node CROSS JOIN LATERAL (
            SELECT '.' || to_json(member.key)::text AS step, member.value
            FROM jsonb_each(CASE WHEN jsonb_typeof(node.value) = 'object' THEN node.value ELSE '{}' END) member
            UNION ALL
            SELECT '[]', item.value
            FROM jsonb_array_elements(CASE WHEN jsonb_typeof(node.value) = 'array' THEN node.value ELSE '[]' END) item
        ) child
    )
    SELECT coalesce(array_agg(DISTINCT hashtextextended(
        path || CASE jsonb_typeof(value)
            WHEN 'object' THEN ''
            WHEN 'array' THEN ''
            WHEN 'number' THEN '=' || trim_scale((value #>> '{}')::numeric)::text
            ELSE '=' || value::text
        END, bucket)), '{}')
    FROM node WHERE path <> root AND value IS NOT NULL
        AND (NOT ends OR jsonb_typeof(value) NOT IN ('object', 'array') OR value IN ('{}', '[]'))
$$;

-- One hash for a word about an annotation's data: its fields (`frames`), the kinds of its region (`region.mask`), its tracks
-- (`track=7`).
CREATE FUNCTION data_key(bucket bigint, word text) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT hashtextextended('d.' || word, bucket) $$;

CREATE FUNCTION annotation_keys(bucket bigint, metadata jsonb, annotation_info jsonb, data jsonb) RETURNS bigint[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN metadata IS NULL THEN '{}' ELSE json_keys(bucket, 'm', metadata) END
        || CASE WHEN annotation_info IS NULL THEN '{}' ELSE json_keys(bucket, 'i', annotation_info) END
        || CASE WHEN data IS NULL THEN '{}' ELSE ARRAY(
            SELECT DISTINCT data_key(bucket, word) FROM (
                SELECT jsonb_object_keys(data) AS word
                UNION ALL
                SELECT 'region.' || jsonb_object_keys(info) FROM jsonb_path_query(data, '$.regions[*].region_info') info
                UNION ALL
                SELECT 'track=' || (track #>> '{}') FROM jsonb_path_query(data, '$.regions[*].track_id') track
            ) words
        ) END
$$;

-- Annotations of a region say what kind of region it is. Predictions, and annotations that name a region by its id, did not.
UPDATE annotations a
SET data = jsonb_set(coalesce(a.data, '{}'), '{regions}', jsonb_build_array(
    coalesce(a.data #> '{regions,0}', '{}') || CASE
        WHEN r.box_top IS NULL THEN '{}'
        ELSE jsonb_build_object('region_info', jsonb_build_object('bounding_box', jsonb_build_object(
            'top_row', r.box_top, 'left_col', r.box_left, 'bottom_row', r.box_bottom, 'right_col', r.box_right)))
    END))
FROM areas r
WHERE r.bucket = a.bucket AND r.id = a.area_id AND r.region_id IS NOT NULL
    AND NOT coalesce(a.data, '{}') @? '$.regions[0].region_info';

ALTER TABLE annotations ADD COLUMN search_keys bigint[] NOT NULL
    GENERATED ALWAYS AS (annotation_keys(bucket, metadata, annotation_info, data)) STORED;
CREATE INDEX annotations_by_search_keys ON annotations USING gin (search_keys) WHERE search_keys <> '{}';
CREATE INDEX annotations_by_place ON annotations (bucket, latitude, longitude) WHERE latitude IS NOT NULL;
CREATE INDEX annotations_by_change ON annotations (bucket, modified_at) WHERE model_version_id = '';
CREATE INDEX annotations_by_user ON annotations (bucket, user_id, created_at, id) WHERE model_version_id = '';
CREATE INDEX annotations_by_task ON annotations (bucket, task_id, created_at, id) WHERE task_id <> '';
CREATE INDEX annotations_by_model ON annotations (bucket, model_version_id, created_at, id) WHERE model_version_id <> '';
CREATE INDEX annotations_by_models ON annotations (bucket, created_at, id) WHERE model_version_id <> '';
CREATE INDEX inputs_by_media ON inputs (bucket, media, created_at, id);

-- Apps use concepts and datasets of their own. Without these PostgreSQL takes a common one for a rare one, the more so the
-- more apps there are, and reads all of it where a page would do.
CREATE STATISTICS labels_by_app_and_concept (mcv) ON bucket, concept_id FROM labels;
CREATE STATISTICS dataset_inputs_by_app_and_dataset (mcv) ON bucket, dataset_id FROM dataset_inputs;

-- What people's annotations said before they were changed or deleted: each version from its `modified_at` until `until`.
-- Together with `annotations` it tells what there was at any time; inputs that are gone take theirs along. The region is
-- repeated here, because its area may be gone.
CREATE TABLE past_annotations (
    bucket            bigint NOT NULL,
    input_number      bigint NOT NULL,
    id                text NOT NULL,
    area_id           bigint NOT NULL,
    created_at        timestamptz NOT NULL,
    modified_at       timestamptz NOT NULL,
    until             timestamptz NOT NULL,
    status            int NOT NULL,
    input_level       boolean NOT NULL,
    trusted           boolean NOT NULL,
    user_id           text NOT NULL,
    model_id          text NOT NULL,
    model_version_id  text NOT NULL,
    task_id           text NOT NULL,
    concept_ids       text[] NOT NULL,
    concept_values    real[] NOT NULL,
    metadata          jsonb,
    latitude          double precision,
    longitude         double precision,
    annotation_info   jsonb,
    data              jsonb,
    region_id         text,
    box_top           real,
    box_left          real,
    box_bottom        real,
    box_right         real,
    PRIMARY KEY (bucket, input_number, id, until),
    FOREIGN KEY (bucket, input_number) REFERENCES inputs (bucket, number) ON DELETE CASCADE
);
CREATE INDEX past_annotations_by_end ON past_annotations (bucket, until);
CREATE INDEX past_annotations_by_area ON past_annotations (bucket, area_id);

-- Saved searches --------------------------------------------------------------------------------------------------------

-- `message` is the Search as it was posted, in protobuf's own bytes; `kind` is the call that saved it. `outline` is the
-- same without the images in it, so that a list of searches need not read them.
CREATE TABLE searches (
    bucket       bigint NOT NULL,
    id           text NOT NULL,
    kind         text NOT NULL CHECK (kind IN ('annotations', 'inputs', 'legacy')),
    message      bytea NOT NULL,
    outline      bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, id)
);
CREATE INDEX searches_by_creation ON searches (bucket, created_at, id);

-- Named filters: a saved search of annotations that datasets refer to.
CREATE TABLE annotation_filters (
    bucket       bigint NOT NULL,
    id           text NOT NULL,
    message      bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, id)
);
CREATE INDEX annotation_filters_by_creation ON annotation_filters (bucket, created_at, id);

-- Datasets and concepts -------------------------------------------------------------------------------------------------

ALTER TABLE datasets
    ADD COLUMN notes text NOT NULL DEFAULT '',
    ADD COLUMN metadata jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN visibility int NOT NULL DEFAULT 10,
    ADD COLUMN image_url text NOT NULL DEFAULT '',
    ADD COLUMN annotation_filter_id text NOT NULL DEFAULT '';
CREATE INDEX dataset_inputs_by_creation ON dataset_inputs (bucket, dataset_id, created_at, input_number);

CREATE TABLE knowledge_graphs (
    bucket                   bigint NOT NULL,
    id                       text NOT NULL,
    name                     text NOT NULL DEFAULT '',
    description              text NOT NULL DEFAULT '',
    examples_app_id          text NOT NULL DEFAULT '',
    sampled_examples_app_id  text NOT NULL DEFAULT '',
    created_at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, id)
);

-- Each edge once: of `hypernym` and `hyponym` only the latter is stored, with subject and object changed over. An end may be
-- a public concept, so neither refers to the table of concepts. `knowledge_graph_id` '' is the app's own graph. A synonym
-- edge, which is the same both ways, has the smaller id as its subject.
CREATE TABLE concept_relations (
    bucket              bigint NOT NULL,
    id                  text NOT NULL,
    subject_id          text NOT NULL,
    object_id           text NOT NULL,
    predicate           text NOT NULL CHECK (predicate IN ('hyponym', 'synonym')),
    knowledge_graph_id  text NOT NULL DEFAULT '',
    visibility          int NOT NULL DEFAULT 10,
    created_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, id)
);
CREATE UNIQUE INDEX concept_relations_once
    ON concept_relations (bucket, knowledge_graph_id, predicate, subject_id, object_id);
CREATE INDEX concept_relations_by_subject ON concept_relations (bucket, subject_id, created_at, id);
CREATE INDEX concept_relations_by_object ON concept_relations (bucket, object_id, created_at, id);
CREATE INDEX concept_relations_by_creation ON concept_relations (bucket, created_at, id);

-- Adding many inputs ----------------------------------------------------------------------------------------------------

CREATE TABLE inputs_add_jobs (
    bucket       bigint NOT NULL,
    id           text NOT NULL,
    cancelled    boolean NOT NULL DEFAULT false,
    refused      bigint NOT NULL DEFAULT 0,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, id)
);
CREATE INDEX inputs_add_jobs_by_creation ON inputs_add_jobs (bucket, created_at, id);
ALTER TABLE inputs ADD COLUMN add_job_id text;
CREATE INDEX inputs_by_add_job ON inputs (bucket, add_job_id, status) WHERE add_job_id IS NOT NULL;

-- Serving ---------------------------------------------------------------------------------------------------------------

-- What each serving process holds in memory, for `sightrank doctor`. Worth nothing after a crash, so not logged.
CREATE UNLOGGED TABLE matrices (
    process      text NOT NULL,
    bucket       bigint NOT NULL,
    embedder_id  int NOT NULL,
    version      bigint NOT NULL,
    rows         bigint NOT NULL,
    bytes        bigint NOT NULL,
    ranker       text NOT NULL,
    seen_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (process, bucket, embedder_id)
);
