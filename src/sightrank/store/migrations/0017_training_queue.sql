-- The order of trainings. `awaited`: some of the labelled inputs that a version was found to wait for; it is looked at again when
-- none of them is yet to be indexed. `effort`: how much work it is (`vision.fitting.effort`); null until somebody has read its
-- examples.
ALTER TABLE model_versions ADD COLUMN awaited bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE model_versions ADD COLUMN effort bigint;
