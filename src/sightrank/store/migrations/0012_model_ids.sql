-- A model can get another id: its versions follow.
ALTER TABLE model_versions
    DROP CONSTRAINT model_versions_bucket_model_id_fkey,
    ADD CONSTRAINT model_versions_bucket_model_id_fkey
        FOREIGN KEY (bucket, model_id) REFERENCES models (bucket, id) ON UPDATE CASCADE ON DELETE CASCADE;

-- When the model got its id, as long as annotations of its versions may still bear one that it had before.
ALTER TABLE models ADD COLUMN renamed_at timestamptz;
CREATE INDEX models_renamed ON models (bucket, id) WHERE renamed_at IS NOT NULL;

-- Tags that the API keeps of a model beside the other three.
ALTER TABLE models ADD COLUMN check_consents text[] NOT NULL DEFAULT '{}';
