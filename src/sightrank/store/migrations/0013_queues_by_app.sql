-- What an app has waiting for its trainings and evaluations is found, counted and claimed by its bucket.
DROP INDEX model_versions_in_queue;
CREATE INDEX model_versions_in_queue ON model_versions (bucket, created_at) WHERE status IN (21101, 21103);
DROP INDEX model_evaluations_in_queue;
CREATE INDEX model_evaluations_in_queue ON model_evaluations (bucket, created_at, id) WHERE status IN (21301, 21303);
