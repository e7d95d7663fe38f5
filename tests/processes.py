"""What tests start processes of ``sightrank`` with."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import HOST

COMMAND = Path(sys.executable).with_name("sightrank")


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment with no settings but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGHTRANK_", "CLARIFAI_"))}
    near = f"{HOST},localhost"
    return kept | {"NO_PROXY": near, "no_proxy": near, "COLUMNS": "200"} | settings


@contextmanager
def home() -> Iterator[Path]:
    """A temporary folder. Not pytest's: as root, the database's own user must be able to walk there."""
    folder = Path(tempfile.mkdtemp(prefix="sightrank-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
