-- Frames of videos are areas, beside the whole video and regions of images. They belong to the video and to no model: each
-- workflow looks at the same ones, as it looks at people's regions. `frame_number` counts all frames of the video from 0,
-- `frame_index` those that are areas; `frame_time_ms` is the middle of the interval that the frame stands for.
ALTER TABLE areas
    ADD COLUMN frame_index int,
    ADD COLUMN frame_time_ms bigint,
    ADD COLUMN frame_number int,
    ADD CHECK (num_nulls(frame_index, frame_time_ms, frame_number) IN (0, 3)),
    ADD CHECK (region_id IS NULL OR frame_index IS NULL);
DROP INDEX areas_whole;
CREATE UNIQUE INDEX areas_of_wholes ON areas (bucket, input_number) WHERE region_id IS NULL AND frame_index IS NULL;
CREATE UNIQUE INDEX areas_by_frame ON areas (bucket, input_number, frame_index) WHERE frame_index IS NOT NULL;

-- `sample_ms`: how far apart the frames of a video are taken, from when it was first looked at; 0 before.
ALTER TABLE inputs
    ADD COLUMN duration_ms int NOT NULL DEFAULT 0,
    ADD COLUMN sample_ms int NOT NULL DEFAULT 0;

-- Videos wait apart from the others: one takes as long as a thousand images.
DROP INDEX inputs_to_do;
CREATE INDEX inputs_in_queue ON inputs (bucket, (media = 'video'), created_at) WHERE status IN (30001, 30003);
