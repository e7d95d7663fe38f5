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
from sightrank.search.versions import Versions

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


def searches_with(engine: Any, now: Versions, workflow_id: str, forgotten: list[str]) -> Searches:
    """Searches whose hits are read at ``now``, when the app has that workflow; a scope is its workflow's id."""

    async def read(app: AppRef, hits: Sequence[str], as_of: None) -> HitPage:
        messages = [resources_pb2.Hit(user_id=hit) for hit in hits]
        return HitPage(versions=now, messages=messages, workflow_id=workflow_id)

    async def worded(scope: str, query: object) -> SimpleNamespace:
        return SimpleNamespace(query=query, note="")

    async def row(statement: str, keys: object) -> tuple[str]:
        return (workflow_id,)

    nothing = cast(Any, None)
    searches = Searches(
        cast(Any, SimpleNamespace(row=row)),
        engine,
        cast(Any, SimpleNamespace(scope=lambda app: app.workflow_id)),
        nothing,
        nothing,
        nothing,
        cast(Any, SimpleNamespace(worded=worded)),
        nothing,
        nothing,
        lambda: forgotten.append("apps"),
    )
    searches._hits = cast(Any, SimpleNamespace(read=read))
    return searches


def page(engine: Engine, now: Versions) -> list[str]:
    searches = searches_with(engine, now, "General", [])
    found, _ = asyncio.run(searches._page(APP, cast(Any, SimpleNamespace(as_of=None))))
    return [hit.user_id for hit in found.messages]


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


@pytest.mark.parametrize("breaks", [False, True])
def test_a_search_by_a_workflow_that_the_app_no_longer_has_runs_again(breaks: bool) -> None:
    class Swept:
        """What is left of the old workflow answers, or fails."""

        def seen(self, scope: object, query: object) -> None:
            return None

        async def run(self, scope: str, query: object) -> list[str]:
            if breaks and scope == "General":
                raise SearchNotIndexed("its vectors are gone")
            return [scope]

    forgotten: list[str] = []
    searches = searches_with(Swept(), NEW, "Universal", forgotten)

    found, _ = asyncio.run(searches._of_one_workflow(APP, cast(Any, SimpleNamespace(as_of=None))))

    assert [hit.user_id for hit in found.messages] == ["Universal"]
    assert forgotten == ["apps"]


def test_a_search_that_fails_by_the_workflow_the_app_has_says_so() -> None:
    engine = Engine(None)

    async def run(*arguments: object) -> list[str]:
        raise SearchNotIndexed("not there yet")

    engine.run = run  # type: ignore[method-assign]
    searches = searches_with(engine, NEW, "General", [])

    with pytest.raises(SearchNotIndexed):
        asyncio.run(searches._of_one_workflow(APP, cast(Any, SimpleNamespace(as_of=None))))
