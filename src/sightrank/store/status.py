"""The published status codes that the database stores with inputs and annotations (api-spec 3.1, 3.3)."""

from __future__ import annotations

from typing import Final

#: Searchable: vectors and annotations are committed with it.
INPUT_INDEXED: Final = 30000
INPUT_PENDING: Final = 30001
INPUT_FAILED: Final = 30002
INPUT_WORKING: Final = 30003
#: Not yet indexed, not yet failed.
INPUT_WAITING: Final = (INPUT_PENDING, INPUT_WORKING)

#: The only status in which a person's annotation is trusted.
ANNOTATION_SUCCESS: Final = 24150

#: States of a model version (api-spec 5.4). One that is trained never changes again.
MODEL_TRAINED: Final = 21100
MODEL_TRAINING: Final = 21101
MODEL_UNTRAINED: Final = 21102
MODEL_QUEUED: Final = 21103
MODEL_FAILED: Final = 21106
MODEL_WITHOUT_DATA: Final = 21110
MODEL_WITHOUT_POSITIVES: Final = 21111
MODEL_EXPORTED: Final = 21500

#: States of a version of a dataset (api-spec 3.2): what is in it is still to be counted, is counted, or cannot be.
DATASET_VERSION_PENDING: Final = 64005
DATASET_VERSION_READY: Final = 64015
DATASET_VERSION_FAILED: Final = 64025
