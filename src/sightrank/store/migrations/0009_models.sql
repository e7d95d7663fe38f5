-- Models of apps: what people make, train and evaluate.

-- `output_info` is that message in protobuf's own bytes, its concepts having an id and a value; `concept_ids` are theirs, in the
-- same order. Operators (thresholds, writers …) are models too: what
-- they do is in the `params` of their latest version.
CREATE TABLE models (
    bucket         bigint NOT NULL,
    id             text NOT NULL,
    name           text NOT NULL,
    model_type_id  text NOT NULL,
    description    text NOT NULL DEFAULT '',
    notes          text NOT NULL DEFAULT '',
    metadata       jsonb NOT NULL DEFAULT '{}',
    toolkits       text[] NOT NULL DEFAULT '{}',
    use_cases      text[] NOT NULL DEFAULT '{}',
    languages      text[] NOT NULL DEFAULT '{}',
    image_url      text NOT NULL DEFAULT '',
    task           text NOT NULL DEFAULT '',
    visibility     int NOT NULL DEFAULT 10,
    concept_ids    text[] NOT NULL DEFAULT '{}',
    output_info    bytea NOT NULL DEFAULT '',
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, id)
);
CREATE INDEX models_by_creation ON models (bucket, created_at, id);

-- A version never changes once it is trained (status 21100). The row is also the job: 21103 waits, 21101 is worked on by
-- `lease_owner` until `lease_until`. `message` is the ModelVersion as posted, in protobuf's own bytes, which clients are shown
-- again; `params` are its `output_info.params`, by which operators work, and `training` is how it is to be fitted (dataset,
-- exclusive concepts, hyper-parameters). `examples` is what it was trained with (areas, and what was said of them), so that it can be fitted again to the
-- vectors of another embedder.
CREATE TABLE model_versions (
    bucket             bigint NOT NULL,
    id                 text NOT NULL,
    model_id           text NOT NULL,
    created_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at       timestamptz,
    status             int NOT NULL,
    status_details     text NOT NULL DEFAULT '',
    message            bytea NOT NULL DEFAULT '',
    concept_ids        text[] NOT NULL DEFAULT '{}',
    params             jsonb NOT NULL DEFAULT '{}',
    training           jsonb NOT NULL DEFAULT '{}',
    total_input_count  int NOT NULL DEFAULT 0,
    examples           bytea,
    progress           real NOT NULL DEFAULT 0,
    attempts           int NOT NULL DEFAULT 0,
    lease_owner        text,
    lease_until        timestamptz,
    PRIMARY KEY (bucket, id),
    FOREIGN KEY (bucket, model_id) REFERENCES models (bucket, id) ON DELETE CASCADE
);
CREATE INDEX model_versions_by_model ON model_versions (bucket, model_id, created_at, id);
CREATE INDEX model_versions_in_queue ON model_versions (created_at) WHERE status IN (21101, 21103);
CREATE INDEX model_versions_trained ON model_versions (bucket, id) WHERE examples IS NOT NULL;

-- What a version learnt, for the vectors of one embedder (`vision.concept_model`).
CREATE TABLE model_fits (
    bucket            bigint NOT NULL,
    model_version_id  text NOT NULL,
    embedder_id       int NOT NULL,
    fitted            bytea NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, model_version_id, embedder_id),
    FOREIGN KEY (bucket, model_version_id) REFERENCES model_versions (bucket, id) ON DELETE CASCADE
);

-- How good a version is. The row is also the job: 21303 waits, 21301 is worked on. `request` is what is shown
-- again of the EvalMetrics as posted, in protobuf's own bytes; `metrics` is all that was measured (`vision.metrics`), and `summary`
-- its averages, by which lists are ordered.
CREATE TABLE model_evaluations (
    bucket            bigint NOT NULL,
    id                text NOT NULL,
    model_id          text NOT NULL,
    model_version_id  text NOT NULL,
    dataset_id        text NOT NULL DEFAULT '',
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    completed_at      timestamptz,
    status            int NOT NULL,
    status_details    text NOT NULL DEFAULT '',
    request           bytea NOT NULL DEFAULT '',
    metrics           bytea NOT NULL DEFAULT '',
    summary           jsonb,
    attempts          int NOT NULL DEFAULT 0,
    lease_owner       text,
    lease_until       timestamptz,
    PRIMARY KEY (bucket, id),
    FOREIGN KEY (bucket, model_version_id) REFERENCES model_versions (bucket, id) ON DELETE CASCADE
);
CREATE INDEX model_evaluations_by_version ON model_evaluations (bucket, model_version_id, created_at, id);
CREATE INDEX model_evaluations_by_creation ON model_evaluations (bucket, created_at, id);
CREATE INDEX model_evaluations_in_queue ON model_evaluations (created_at) WHERE status IN (21301, 21303);
