-- A model can get another id: its versions follow.
ALTER TABLE model_versions
    DROP CONSTRAINT model_versions_bucket_model_id_fkey,
    ADD CONSTRAINT model_versions_bucket_model_id_fkey
        FOREIGN KEY (bucket, model_id) REFERENCES models (bucket, id) ON UPDATE CASCADE ON DELETE CASCADE;

-- Tags that the API keeps of a model beside the other three.
ALTER TABLE models ADD COLUMN check_consents text[] NOT NULL DEFAULT '{}';
