"""Looking at regions of an input whose file is gone."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from tests.eyes import blind_eye

from sightrank.ingest.regions import Regions, Target
from sightrank.store.blobs import BlobMissingError
from sightrank.store.clock import Clock
from sightrank.store.database import TryAgain

THERE = ("a", 7, 30000, "image", "", "1/blob")


class Inputs:
    """A database that has these inputs now, and no file of theirs."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self._rows = rows

    async def rows(self, statement: Any, parameters: Any) -> list[tuple[Any, ...]]:
        return list(self._rows)

    async def load(self, bucket: int, *, url: str, blob: str) -> bytes:
        raise BlobMissingError(blob)


def look(inputs: Any) -> None:
    workflow: Any = SimpleNamespace(eye=blind_eye())
    regions = Regions(inputs, inputs, Clock(), decoders=1)
    target = Target(number=7, status=30000, media="image", url="", blob="1/blob")
    asyncio.run(regions.look(1, workflow, {"a": target}, {"a": [None]}))


@pytest.mark.parametrize("rows", [[], [("a", 8, 30001, "image", "", "1/blob")]], ids=["deleted", "posted anew"])
def test_an_input_that_was_deleted_meanwhile_is_looked_for_anew(rows: list[tuple[Any, ...]]) -> None:
    with pytest.raises(TryAgain):
        look(Inputs(*rows))


def test_a_file_that_is_lost_is_an_error() -> None:
    with pytest.raises(BlobMissingError):
        look(Inputs(THERE))
