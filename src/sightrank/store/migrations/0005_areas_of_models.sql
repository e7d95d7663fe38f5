-- Regions that a detector found have areas like those that people drew. Which version of it made them; '' for people's.
ALTER TABLE areas ADD COLUMN model_version_id text NOT NULL DEFAULT '';
