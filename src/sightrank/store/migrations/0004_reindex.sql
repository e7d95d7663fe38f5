-- Changing an app's base workflow: what the wanted workflow makes of the inputs is kept beside what the app has, until all of
-- it is there.

-- One row for each app whose base workflow is to change, or was changed and has something left to be removed (`workflow_id`
-- null: nothing more is wanted). The row is also the job: `lease_owner` works on it until `lease_until`.
-- sweeping: what no longer belongs to the app is removed. running: inputs are looked at, those up to `after_number` have had
-- their turn in this pass. switching: hardly any is missing, so the app's ingest waits. failed: `failure` says why.
CREATE TABLE reindexes (
    bucket        bigint PRIMARY KEY,
    workflow_id   text,
    embedder_id   int,
    state         text NOT NULL CHECK (state IN ('sweeping', 'running', 'switching', 'failed')),
    after_number  bigint NOT NULL DEFAULT 0,
    failure       text NOT NULL DEFAULT '',
    attempts      int NOT NULL DEFAULT 0,
    started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_owner   text,
    lease_until   timestamptz
);

-- Areas that the wanted workflow has looked at: their vectors are in its table, what its tagger says waits here ('' without
-- a tagger).
CREATE TABLE reindexed_areas (
    bucket            bigint NOT NULL,
    area_id           bigint NOT NULL,
    input_number      bigint NOT NULL,
    model_id          text NOT NULL,
    model_version_id  text NOT NULL,
    concept_ids       text[] NOT NULL,
    concept_values    real[] NOT NULL,
    data              jsonb,
    PRIMARY KEY (bucket, area_id),
    FOREIGN KEY (bucket, area_id) REFERENCES areas (bucket, id) ON DELETE CASCADE
);
CREATE INDEX reindexed_areas_by_input ON reindexed_areas (bucket, input_number);

-- Inputs that the wanted workflow could not look at.
CREATE TABLE reindex_failures (
    bucket        bigint NOT NULL,
    input_number  bigint NOT NULL,
    reason        text NOT NULL,
    PRIMARY KEY (bucket, input_number),
    FOREIGN KEY (bucket, input_number) REFERENCES inputs (bucket, number) ON DELETE CASCADE
);
