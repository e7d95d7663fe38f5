"""A page is ranked by what the process holds, and ranked again when reading it shows a newer commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.call import AppRef
from sightrank.api.hits import HitPage
from sightrank.api.searches import Searches
from sightrank.errors import SearchNotIndexed
from sightrank.search.follow import Versions

OLD, NEW = Versions(all=7, labels=3), Versions(all=8, labels=3)
APP = AppRef(user_id="admin", app_id="photos", bucket=1, workflow_id="General")


class Engine:
    """Holds ``seen``; answers with the versions it was asked for, and refuses the old ones if told to."""

    def __init__(self, seen: Versions | None, *, refuses: bool = False) -> None:
        self._seen, self._refuses = seen, refuses
        self.asked: list[Versions | None] = []

    def seen(self, scope: object, query: object) -> Versions | None:
        return self._seen

    async def run(self, scope: object, query: object, versions: Versions | None = None) -> list[str]:
        self.asked.append(versions)
        if self._refuses and versions is not None:
            raise SearchNotIndexed("not there yet")
        return ["stale" if versions == OLD else "fresh"]


def page(engine: Engine, now: Versions) -> list[str]:
    async def read(app: AppRef, hits: Sequence[str], as_of: None) -> HitPage:
        return HitPage(versions=now, messages=[resources_pb2.Hit(user_id=hit) for hit in hits])

    nothing = cast(Any, None)
    searches = Searches(nothing, cast(Any, engine), nothing, nothing, nothing, nothing, nothing, nothing)
    searches._hits = cast(Any, SimpleNamespace(read=read))
    query = cast(Any, SimpleNamespace(as_of=None))
    return [hit.user_id for hit in asyncio.run(searches._page(APP, nothing, query))]


def test_one_ranking_when_nothing_was_committed_meanwhile() -> None:
    engine = Engine(OLD)
    assert page(engine, OLD) == ["stale"]
    assert engine.asked == [OLD]


@pytest.mark.parametrize("now", [NEW, Versions(all=7, labels=4)])
def test_a_commit_since_the_last_search_is_in_the_answer(now: Versions) -> None:
    engine = Engine(OLD)
    assert page(engine, now) == ["fresh"]
    assert engine.asked == [OLD, None]


def test_a_process_that_holds_nothing_asks_first() -> None:
    engine = Engine(None)
    assert page(engine, NEW) == ["fresh"]
    assert engine.asked == [None]


def test_an_input_newer_than_the_process_is_no_error() -> None:
    engine = Engine(OLD, refuses=True)
    assert page(engine, NEW) == ["fresh"]
