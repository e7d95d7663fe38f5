"""The bench of the oracle: one database with several apps for the tests of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo
from tests.integration.conftest import _create, _drop, server, server_url, stub, template
from tests.oracle.bench import Bench, bench

__all__ = ["server", "server_url", "stub", "template"]

#: Decides what is in the apps. `make fuzz` takes another one each time and prints it.
SEED = int(os.environ.get("SIGHTRANK_FUZZ_SEED", "20"))


@pytest.fixture(scope="module")
def apps(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Fresh for each file: one that trains and deletes models must not decide what the searches of another can show."""
    name = f"oracle_{os.getpid()}"
    folder: Path = tmp_path_factory.mktemp("oracle")
    _create(server_url, name, template)
    try:
        with bench(make_conninfo(server_url, dbname=name), folder, seed=SEED) as opened:
            yield opened
    finally:
        _drop(server_url, name)
