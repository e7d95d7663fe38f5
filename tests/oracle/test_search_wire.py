"""The same comparison from outside: an app written through the public API, searches over gRPC and over REST."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from google.protobuf import json_format
from tests.integration.serving import SUCCESS, USER, App, Server, new_app, picture
from tests.oracle.apps import DATASETS
from tests.oracle.comparison import Outcome, check, expected_of
from tests.oracle.filters import Refused
from tests.oracle.oracle import Expected, Oracle
from tests.oracle.publishing import PICTURES, change, publish
from tests.oracle.reading import read_app
from tests.oracle.records import Vector
from tests.oracle.searches import Asked, Words, page_of, random_search

from sightrank.installed import load_installed
from sightrank.search.engine import Hit
from sightrank.search.query import Unit
from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.eye import ImageLimits
from sightrank.vision.tagger import Tagger
from sightrank.vision.threads import Threads
from sightrank.vision.vocabulary import Vocabulary

SEARCHES = 150
_NAMES = ("dog", "犬", "Hund", "DOG", "Rex", "holiday", "people", "人", "station")
_WINDOWS = ((0, 5), (0, 1000), (5, 5), (3, 1), (20, 10), (0, 41))


@dataclass(frozen=True, kw_only=True)
class Published:
    """An app on a running server, and its oracle."""

    app: App
    oracle: Oracle
    words: Words

    def asked(self, random: Random) -> Asked:
        offset, limit = random.choice(_WINDOWS)
        return page_of(random_search(random, self.oracle.app, self.words), offset, limit)

    def request(self, asked: Asked) -> Any:
        pagination = service_pb2.Pagination(page=asked.offset // asked.limit + 1, per_page=asked.limit)
        if asked.legacy:
            return service_pb2.PostSearchesRequest(
                user_app_id=self.app.ids, searches=[asked.search], pagination=pagination
            )
        kind = (
            service_pb2.PostInputsSearchesRequest
            if asked.unit is Unit.INPUT
            else service_pb2.PostAnnotationsSearchesRequest
        )
        request = kind(user_app_id=self.app.ids, searches=[asked.search], pagination=pagination)
        if isinstance(request, service_pb2.PostInputsSearchesRequest):
            request.only_count = asked.counts
        return request

    def check(self, asked: Asked, answer: Any) -> None:
        """Raises Mismatch."""
        expected = expected_of(self.oracle, asked)
        check(asked, expected, self._outcome(asked, expected, answer))

    def _outcome(self, asked: Asked, expected: Outcome, answer: Any) -> list[Hit] | int | Refused:
        if answer.status.code != SUCCESS:
            return Refused(answer.status.code)
        if asked.counts:
            [count] = answer.hit_counts
            return int(count.estimated_total)
        return [self._hit(hit, asked, expected) for hit in answer.hits] if isinstance(expected, list) else []

    def _hit(self, hit: resources_pb2.Hit, asked: Asked, expected: list[Expected]) -> Hit:
        """By number and area, as the engine tells it."""
        as_of_us = asked.search.as_of.ToNanoseconds() // 1000 if asked.search.HasField("as_of") else None
        [item] = [item for item in self.oracle.app.inputs if item.id == hit.input.id]
        assert hit.annotation.input_id in {"", item.id}
        ranked = any(one.area_id is not None for one in expected)
        names_annotation = any(one.annotation_id is not None for one in expected)
        then = [note for note in item.notes(as_of_us) if note.annotation.id == hit.annotation.id]
        # Of what nobody spoke of then, the first annotation of today is shown.
        notes = then or [note for note in item.notes(None) if note.annotation.id == hit.annotation.id]
        return Hit(
            score=hit.score,
            input_number=item.number,
            area_id=item.area_of(notes[0]).id if ranked else None,
            annotation_id=hit.annotation.id if then and (names_annotation or not ranked) else None,
        )


@pytest.fixture(scope="module")
def published(server: Server, stub: service_pb2_grpc.V2Stub) -> Published:
    app = new_app(server, stub)
    publish(app, seed=7)
    return _read(app)


def _read(app: App) -> Published:
    bundle = load_bundle(built_in_bundle())
    public = {term.id: term.names for term in Vocabulary.load(bundle.vocabulary)}
    records = read_app(app.server.sql, USER, app.id, public)
    pictures = [picture(place) for place in (*range(3), PICTURES + 1)]
    images: dict[str | bytes, Vector] = dict(zip(pictures, _looks(tuple(pictures)), strict=True))
    versions = {annotation.model_version_id for item in records.inputs for annotation in item.annotations} - {""}
    words = Words(
        images=pictures,
        names=_NAMES,
        languages=("", "", "en", "ja", "de", "zh"),
        datasets=DATASETS,
        users=(USER,),
        model_versions=sorted(versions),
    )
    return Published(app=app, oracle=Oracle(records, Tagger.load(bundle), images, versions=versions), words=words)


@cache
def _looks(pictures: tuple[bytes, ...]) -> list[Vector]:
    """Query images as the server sees them."""
    threads = Threads(1)

    async def look() -> list[Vector]:
        general = (
            load_installed(threads, ImageLimits(max_bytes=2**20, max_pixels=2**20), models_dir=Path("none"))
            .workflows[0]
            .eye
        )
        return [(await general.look(data)).astype("float64") for data in pictures]

    try:
        return asyncio.run(look())
    finally:
        threads.close()


def _ask(published: Published, asked: Asked) -> Any:
    rpc = "PostSearches" if asked.legacy else f"Post{asked.unit.value.capitalize()}sSearches"
    return getattr(published.app.stub, rpc)(
        published.request(asked), metadata=(("authorization", f"Key {published.app.key}"),)
    )


@pytest.mark.parametrize("seed", range(SEARCHES))
def test_grpc_answers_what_the_oracle_answers(seed: int, published: Published) -> None:
    asked = published.asked(Random(seed))

    answer = _ask(published, asked)

    published.check(asked, answer)


@pytest.mark.parametrize("seed", range(SEARCHES, 2 * SEARCHES))
def test_rest_answers_what_the_oracle_answers(seed: int, published: Published) -> None:
    asked = published.asked(Random(seed))
    path = "/searches" if asked.legacy else f"/{asked.unit.value}s/searches"

    found = published.app.rest("POST", path, _to_json(published.request(asked)))

    answer = service_pb2.MultiSearchResponse()
    published.check(asked, json_format.ParseDict(found, answer, ignore_unknown_fields=True))


def test_several_searches_answer_one_after_the_other(published: Published) -> None:
    """Each with its own page; hits in the order of the searches."""
    random = Random(1)
    chosen: list[Asked] = []
    while len(chosen) < 6:
        asked = published.asked(random)
        plain = asked.unit is Unit.ANNOTATION and not asked.search.min_value
        if plain and isinstance(expected_of(published.oracle, asked), list):
            chosen.append(page_of(asked, 0, 4))

    for first, second in pairwise(chosen):
        request = published.request(first)
        request.searches.append(second.search)
        answer = published.app.stub.PostAnnotationsSearches(
            request, metadata=(("authorization", f"Key {published.app.key}"),)
        )

        hits = list(answer.hits)
        sizes = [len(published.oracle.answer(asked.search, asked.unit)[:4]) for asked in (first, second)]
        assert len(hits) == sum(sizes)
        for asked, part in ((first, hits[: sizes[0]]), (second, hits[sizes[0] :])):
            published.check(asked, service_pb2.MultiSearchResponse(status=answer.status, hits=part))


def test_answers_follow_what_changes_meanwhile(server: Server, stub: service_pb2_grpc.V2Stub) -> None:
    """The same searches again and again, while annotations, inputs and datasets change under them."""
    app = new_app(server, stub)
    publish(app, seed=11, inputs=12)
    for change_seed in range(3):
        published = _read(app)
        for seed in range(60):
            asked = published.asked(Random(f"change {seed}"))
            published.check(asked, _ask(published, asked))
        change(app, change_seed, [item.id for item in published.oracle.app.inputs])


def test_an_app_that_embeds_nothing_filters_and_refuses_to_rank(server: Server, stub: service_pb2_grpc.V2Stub) -> None:
    app = replace(new_app(server, stub), id=f"empty-{uuid.uuid4().hex[:12]}")
    posted = resources_pb2.App(id=app.id, default_workflow_id="Empty")
    app.stub.PostApps(
        service_pb2.PostAppsRequest(user_app_id=resources_pb2.UserAppIDSet(user_id=USER), apps=[posted]),
        metadata=(("authorization", f"Key {app.key}"),),
    )
    publish(app, seed=3, inputs=12)
    published = _read(app)
    ranked = 0
    for seed in range(60):
        asked = published.asked(Random(f"empty {seed}"))
        expected = expected_of(published.oracle, asked)
        if isinstance(expected, frozenset):
            continue
        query = asked.search.query
        answer = _ask(published, asked)
        if any(rank.annotation.data.ListFields() for rank in query.ranks):
            assert answer.status.code == 40002, asked
            ranked += 1
        elif not any(one.HasField("output") for one in query.ands):
            published.check(asked, answer)
    assert ranked > 5


def _to_json(request: Any) -> Any:
    """As a client writes it by hand. A concept's value of 0 must be said, for JSON reads a missing one as 1."""
    body = json_format.MessageToDict(request, preserving_proto_field_name=True)
    body.pop("user_app_id")
    _say_values(body)
    return body


def _say_values(part: Any) -> None:
    for key, value in part.items() if isinstance(part, dict) else ():
        if key == "concepts":
            for concept in value:
                concept.setdefault("value", 0.0)
        elif key not in {"metadata", "annotation_info"}:
            for item in value if isinstance(value, list) else [value]:
                _say_values(item)
