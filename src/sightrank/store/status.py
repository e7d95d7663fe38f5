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
