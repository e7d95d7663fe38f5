"""Searches that the engine answers or refuses before any arithmetic."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from tests.eyes import blind_eye, reading_eye
from tests.integration.searching import Process, like, process, random_unit

from sightrank.errors import AppError, DoesNotExist, SearchInvalid, SearchNotIndexed
from sightrank.search.query import (
    ConceptName,
    ConceptTerm,
    FieldCondition,
    Filter,
    InputTerm,
    Query,
    Rank,
    Term,
    TextTerm,
    Unit,
    VectorTerm,
)
from sightrank.search.scope import SearchScope


def query(*terms: Term, unit: Unit = Unit.INPUT, **changes: Any) -> Query:
    ranks = tuple(Rank(terms=(term,)) for term in terms)
    fields: dict[str, Any] = {"filters": (), "ranks": ranks, "min_value": 0.0, "offset": 0, "limit": 10}
    return Query(unit=unit, **(fields | changes))


def scope(server: Process, bucket: int, **changes: Any) -> SearchScope:
    fields: dict[str, Any] = {"bucket": bucket, "default_language": "en", "table": server.table, "eye": blind_eye()}
    return SearchScope(**(fields | changes))


def test_a_search_for_everything_gives_every_input_in_order_of_creation(database_url: str) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            bucket = await server.new_bucket()
            photos = [photo for seed in range(3) for photo in await server.add(bucket, random_unit(seed))]

            hits = await server.engine.run(scope(server, bucket), query())
            second = await server.engine.run(scope(server, bucket), query(offset=1, limit=1))

            assert [(hit.input_number, hit.score) for hit in hits] == [(photo.number, 1.0) for photo in photos]
            assert [hit.input_number for hit in second] == [photos[1].number]
            assert await server.engine.count(scope(server, bucket), query(limit=0)) == 3

    asyncio.run(scenario())


def test_an_empty_workflow_filters_but_does_not_rank(database_url: str) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            empty = scope(server, await server.new_bucket(), table=None)

            assert await server.engine.run(empty, query()) == []
            with pytest.raises(SearchInvalid, match="Empty"):
                await server.engine.run(empty, query(like(random_unit(1))))

    asyncio.run(scenario())


REFUSALS: list[tuple[Term, type[AppError], str]] = [
    (ConceptTerm(concept=ConceptName(id="yeti"), value=1.0), SearchInvalid, "No concept with id 'yeti'"),
    (ConceptTerm(concept=ConceptName(name="Yeti"), value=1.0), SearchInvalid, "No concept with name 'Yeti'"),
    (InputTerm(input_id="nowhere"), DoesNotExist, "no input 'nowhere'"),
    (InputTerm(input_id="waiting"), SearchNotIndexed, "status 30001"),
    (InputTerm(input_id="textual"), SearchNotIndexed, "no vectors"),
    (VectorTerm(vectors=((1.0, 0.0),)), SearchInvalid, r"embeddings\[0\] has 2 numbers; the app's embedder makes 8"),
    (VectorTerm(vectors=((0.0,) * 8,)), SearchInvalid, "An embedding is zero"),
    (VectorTerm(vectors=((1.0,) * 8, (-1.0,) * 8)), SearchInvalid, "mean of the embeddings is zero"),
]


def test_what_cannot_be_ranked_by_is_refused_with_the_reason(database_url: str) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            bucket = await server.new_bucket()
            await server.database.execute(
                "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media) VALUES"
                " (%(b)s, 'waiting', now(), now(), 30001, 'image'), (%(b)s, 'textual', now(), now(), 30000, 'text')",
                {"b": bucket},
            )
            await server.add(bucket, random_unit(1))
            for term, error, text in REFUSALS:
                with pytest.raises(error, match=text):
                    await server.engine.run(scope(server, bucket), query(term))

    asyncio.run(scenario())


def test_where_the_workflow_reads_text_a_text_ranks_by_its_vector(database_url: str) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            bucket = await server.new_bucket()
            photos = await server.add(bucket, *(random_unit(seed) for seed in range(5)))
            texts = {"a dog": random_unit(2), "zero": np.zeros(8)}
            reading = scope(server, bucket, eye=reading_eye(texts))

            by_text = await server.engine.run(reading, query(TextTerm(raw="a dog")))
            by_vector = await server.engine.run(reading, query(like(random_unit(2))))

            assert by_text[0].input_number == photos[2].number
            assert [hit.input_number for hit in by_text] == [hit.input_number for hit in by_vector]
            assert [hit.score for hit in by_text] == pytest.approx([hit.score for hit in by_vector], abs=1e-6)
            with pytest.raises(SearchInvalid, match="The text is zero"):
                await server.engine.run(reading, query(TextTerm(raw="zero")))

    asyncio.run(scenario())


def test_a_model_version_of_another_workflow_is_refused(database_url: str) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            asked = Rank(terms=(like(random_unit(1)),), model_version_id="v9")
            own = scope(server, await server.new_bucket(), model_version_ids=frozenset({"v1"}))
            with pytest.raises(SearchInvalid, match=r"model_version_id 'v9' .*\(v1\)"):
                await server.engine.run(own, query(ranks=(asked,)))

    asyncio.run(scenario())


def test_filters_that_leave_nothing_leave_nothing_to_rank(database_url: str) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            bucket = await server.new_bucket()
            await server.add(bucket, random_unit(1))
            nothing = Filter(groups=((FieldCondition(field="input.id", value="%s {} '"),),))
            for unit in Unit:
                asked = query(like(random_unit(1)), unit=unit, filters=(nothing,))
                assert await server.engine.run(scope(server, bucket), asked) == []

    asyncio.run(scenario())
