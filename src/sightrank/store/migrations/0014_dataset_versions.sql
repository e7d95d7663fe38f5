-- Versions of datasets. A version is a dataset as of an instant; nothing is copied. Its members are those of
-- `dataset_inputs` that had joined by then, and those of `past_dataset_inputs` that had not left; what people said of them is
-- in `annotations` and `past_annotations`. Inputs that are gone are gone from versions too.

-- `as_of` of the last version of a dataset of the app: whatever is said from then on is later.
ALTER TABLE app_buckets ADD COLUMN versions_as_of timestamptz NOT NULL DEFAULT 'epoch';

-- `status`: 64005 is to be counted, 64015 is. `metrics` are the totals. `filter` is the Search of the annotation filter
-- `filter_id` as it was, in protobuf's own bytes; what it leaves is in `dataset_version_annotations`.
CREATE TABLE dataset_versions (
    bucket         bigint NOT NULL,
    dataset_id     text NOT NULL,
    id             text NOT NULL,
    as_of          timestamptz NOT NULL,
    description    text NOT NULL DEFAULT '',
    metadata       jsonb NOT NULL DEFAULT '{}',
    visibility     int NOT NULL DEFAULT 10,
    filter_id      text NOT NULL DEFAULT '',
    filter         bytea,
    ignore_empty   boolean NOT NULL DEFAULT false,
    status         int NOT NULL DEFAULT 64005,
    details        text NOT NULL DEFAULT '',
    metrics        jsonb,
    created_at     timestamptz NOT NULL,
    modified_at    timestamptz NOT NULL,
    PRIMARY KEY (bucket, dataset_id, id),
    FOREIGN KEY (bucket, dataset_id) REFERENCES datasets (bucket, id) ON DELETE CASCADE
);
CREATE INDEX dataset_versions_by_creation ON dataset_versions (bucket, dataset_id, created_at, id);
CREATE INDEX dataset_versions_by_time ON dataset_versions (bucket, as_of);
CREATE INDEX dataset_versions_to_count ON dataset_versions (bucket, created_at) WHERE status = 64005;

-- Memberships that ended and that a version needs.
CREATE TABLE past_dataset_inputs (
    bucket        bigint NOT NULL,
    dataset_id    text NOT NULL,
    input_number  bigint NOT NULL,
    since         timestamptz NOT NULL,
    until         timestamptz NOT NULL,
    PRIMARY KEY (bucket, dataset_id, input_number, since),
    FOREIGN KEY (bucket, input_number) REFERENCES inputs (bucket, number) ON DELETE CASCADE,
    FOREIGN KEY (bucket, dataset_id) REFERENCES datasets (bucket, id) ON DELETE CASCADE
);
CREATE INDEX past_dataset_inputs_by_input ON past_dataset_inputs (bucket, input_number);
CREATE INDEX past_dataset_inputs_by_creation ON past_dataset_inputs (bucket, dataset_id, since, input_number);

-- The annotations that a filter left, of versions that have one; without a filter all of the members' are meant.
CREATE TABLE dataset_version_annotations (
    bucket         bigint NOT NULL,
    dataset_id     text NOT NULL,
    version_id     text NOT NULL,
    input_number   bigint NOT NULL,
    annotation_id  text NOT NULL,
    PRIMARY KEY (bucket, dataset_id, version_id, input_number, annotation_id),
    FOREIGN KEY (bucket, dataset_id, version_id) REFERENCES dataset_versions (bucket, dataset_id, id) ON DELETE CASCADE,
    FOREIGN KEY (bucket, input_number) REFERENCES inputs (bucket, number) ON DELETE CASCADE
);
CREATE INDEX dataset_version_annotations_by_input ON dataset_version_annotations (bucket, input_number);

-- What was counted, group by group (DatasetVersionMetricsGroup), in the order in which they are listed.
CREATE TABLE dataset_version_groups (
    bucket       bigint NOT NULL,
    dataset_id   text NOT NULL,
    version_id   text NOT NULL,
    place        bigint NOT NULL,
    parent_path  text NOT NULL,
    type         int NOT NULL,
    value        jsonb NOT NULL,
    metrics      jsonb NOT NULL,
    PRIMARY KEY (bucket, dataset_id, version_id, place),
    FOREIGN KEY (bucket, dataset_id, version_id) REFERENCES dataset_versions (bucket, dataset_id, id) ON DELETE CASCADE
);

-- For whoever is going to say something, or to change who is in a dataset: no version is made before the transaction ends. Tells
-- after which instant that is said, also where the transaction had to wait for a version to be made.
CREATE FUNCTION between_versions(of_bucket bigint) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended('versions', of_bucket));
    RETURN (SELECT versions_as_of FROM app_buckets WHERE bucket = of_bucket);
END
$$;

-- By which version of its dataset an evaluation judges; '' is the dataset as it is when it is evaluated.
ALTER TABLE model_evaluations ADD COLUMN dataset_version_id text NOT NULL DEFAULT '';
