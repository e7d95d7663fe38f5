-- Whether a prediction is by a version of one of the app's own models. What is left of a version that was deleted is told from
-- what an installed model of the same name said by this alone.
ALTER TABLE annotations ADD COLUMN own_model boolean NOT NULL DEFAULT false;

UPDATE annotations a SET own_model = true
FROM model_versions v WHERE v.bucket = a.bucket AND v.id = a.model_version_id AND a.model_version_id <> '';
