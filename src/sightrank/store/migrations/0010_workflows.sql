-- Workflows of apps: graphs of models.

CREATE TABLE workflows (
    bucket       bigint NOT NULL,
    id           text NOT NULL,
    description  text NOT NULL DEFAULT '',
    notes        text NOT NULL DEFAULT '',
    metadata     jsonb NOT NULL DEFAULT '{}',
    use_cases    text[] NOT NULL DEFAULT '{}',
    image_url    text NOT NULL DEFAULT '',
    visibility   int NOT NULL DEFAULT 10,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, id)
);
CREATE INDEX workflows_by_creation ON workflows (bucket, created_at, id);

-- `nodes` is a WorkflowVersion that has nothing but nodes, in protobuf's own bytes. The nodes of a version never change.
CREATE TABLE workflow_versions (
    bucket         bigint NOT NULL,
    id             text NOT NULL,
    workflow_id    text NOT NULL,
    nodes          bytea NOT NULL,
    description    text NOT NULL DEFAULT '',
    license        text NOT NULL DEFAULT '',
    metadata       jsonb NOT NULL DEFAULT '{}',
    visibility     int NOT NULL DEFAULT 10,
    is_deprecated  boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (bucket, id),
    FOREIGN KEY (bucket, workflow_id) REFERENCES workflows (bucket, id) ON DELETE CASCADE
);
CREATE INDEX workflow_versions_by_workflow ON workflow_versions (bucket, workflow_id, created_at, id);

-- An app's own base workflow indexes inputs by the models of a public one, which stays in `workflow_id`, and then runs its other
-- nodes. '' where the app has the public one itself.
ALTER TABLE apps ADD COLUMN own_workflow_id text NOT NULL DEFAULT '';
