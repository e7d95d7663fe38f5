-- Archives of dataset versions: a row is the job that writes one, and then what is known of its file.

-- `blob` is the file once it is there. `secret` signs the URLs by which it is downloaded. `told`: somebody has learnt that it
-- failed, and whoever asks again means that it be tried again.
CREATE TABLE dataset_exports (
    bucket          bigint NOT NULL,
    id              text NOT NULL,
    dataset_id      text NOT NULL,
    version_id      text NOT NULL,
    format          int NOT NULL,
    secret          text NOT NULL,
    status          int NOT NULL,
    status_details  text NOT NULL DEFAULT '',
    told            boolean NOT NULL DEFAULT false,
    progress        real NOT NULL DEFAULT 0,
    blob            text NOT NULL DEFAULT '',
    size            bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts        int NOT NULL DEFAULT 0,
    lease_owner     text,
    lease_until     timestamptz,
    PRIMARY KEY (bucket, id),
    UNIQUE (bucket, dataset_id, version_id, format),
    FOREIGN KEY (bucket, dataset_id, version_id) REFERENCES dataset_versions (bucket, dataset_id, id) ON DELETE CASCADE
);
CREATE INDEX dataset_exports_in_queue ON dataset_exports (bucket, created_at, id) WHERE status IN (64201, 64203);
CREATE INDEX dataset_exports_by_blob ON dataset_exports (bucket, blob) WHERE blob <> '';
