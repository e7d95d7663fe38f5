"""Ranking by what people taught: from the commit that a version is trained until the commit that it is gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pytest
from clarifai_grpc.grpc.api.resources_pb2 import And, Annotation, Concept, Data, Output, Query, Rank, Search
from tests.eyes import blind_eye
from tests.integration.own_models import classifier, coloured, teach_colours, train
from tests.integration.saving import instant, run, save
from tests.integration.searching import DIMS, Photo, Process, process, random_unit
from tests.integration.serving import App, by_concept, of_bytes

from sightrank.errors import SearchInvalid
from sightrank.search import query as asked
from sightrank.search.query import ConceptName, ConceptTerm, Unit
from sightrank.search.scope import SearchScope
from sightrank.store import queries
from sightrank.store.buckets import next_version
from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.tagger import Tagger

MINE = ConceptTerm(concept=ConceptName(id="mine"), value=1.0)
TRAINED, QUEUED = 21100, 21103


def fitted(*concept_ids: str, seed: int = 1, exclusive: bool = False) -> ConceptModel:
    random = np.random.default_rng(seed)
    directions = random.normal(size=(len(concept_ids), DIMS))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    scale, bias = np.full(len(concept_ids), 6.0, np.float32), random.normal(size=len(concept_ids)).astype(np.float32)
    return ConceptModel(concept_ids, directions.astype(np.float32), scale, bias, exclusive=exclusive)


async def teach(
    server: Process,
    bucket: int,
    version_id: str,
    model: ConceptModel,
    *,
    model_id: str = "model",
    status: int = TRAINED,
    embedder_id: int | None = None,
) -> None:
    """What training leaves in the database."""
    now = datetime.now(UTC)
    async with server.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO models (bucket, id, name, model_type_id) VALUES (%s, %s, %s, 'embedding-classifier')"
            " ON CONFLICT DO NOTHING",
            [bucket, model_id, model_id],
        )
        await connection.execute(
            "INSERT INTO model_versions (bucket, id, model_id, status, concept_ids, completed_at)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [bucket, version_id, model_id, status, list(model.ids), now],
        )
        await connection.execute(
            "INSERT INTO model_fits (bucket, model_version_id, embedder_id, fitted) VALUES (%s, %s, %s, %s)",
            [bucket, version_id, embedder_id or server.table.id, model.dump()],
        )
        await next_version(connection, bucket, labels=True)


async def forget(server: Process, bucket: int, version_id: str) -> None:
    async with server.database.transaction() as connection:
        await connection.execute(
            "DELETE FROM model_versions WHERE bucket = %s AND id = %s RETURNING 1", [bucket, version_id]
        )
        await next_version(connection, bucket, labels=True)


async def scores(
    server: Process, bucket: int, *terms: ConceptTerm, version_id: str = "", **changes: Any
) -> dict[int, float]:
    """Input number to score, best first."""
    rank = asked.Rank(terms=terms or (MINE,), model_version_id=version_id)
    query = asked.Query(unit=Unit.INPUT, filters=(), ranks=(rank,), min_value=0.0, offset=0, limit=1000)
    scope = SearchScope(bucket=bucket, default_language="en", table=server.table, eye=blind_eye())
    hits = await server.engine.run(replace(scope, **changes), query)
    found = [hit.score for hit in hits]
    assert found == sorted(found, reverse=True)
    return {hit.input_number: hit.score for hit in hits}


def predicted(model: ConceptModel, photos: Sequence[Photo], concept_id: str = "mine") -> dict[int, float]:
    """By a single prediction each."""
    column = model.ids.index(concept_id)
    return {
        photo.number: float(model.probabilities(photo.vector.astype(np.float32)[None])[0, column]) for photo in photos
    }


def alike(values: dict[int, float]) -> Any:
    return pytest.approx(values, abs=1e-5)


def with_two(url: str, scenario: Callable[[Process, Process], Awaitable[Any]], **options: Any) -> None:
    async def opened() -> None:
        async with process(url, **options) as one, process(url, **options) as other:
            await scenario(one, other)

    asyncio.run(opened())


# Which p -------------------------------------------------------------------------------------------------------------


def test_a_version_ranks_from_its_commit_until_it_is_gone(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(30)))
        await one.label(bucket, photos[0], 1.0)
        await one.label(bucket, photos[1], 0.0)
        untaught = await scores(other, bucket)
        likeness = photos[2].vector.astype(float) @ photos[0].vector.astype(float)
        length = np.linalg.norm(photos[0].vector.astype(float))
        assert untaught[photos[2].number] == pytest.approx((1 + likeness / length) / 2, abs=1e-5)

        model = fitted("mine", "other")
        await teach(one, bucket, "v1", model)

        expected = {**predicted(model, photos), photos[0].number: 1.0, photos[1].number: 0.0}
        assert await scores(other, bucket) == alike(expected)
        assert await scores(one, bucket) == alike(expected)
        await forget(one, bucket, "v1")
        assert await scores(other, bucket) == untaught
        assert await scores(one, bucket) == untaught

    with_two(database_url, scenario)


def test_a_version_whose_id_comes_again_ranks_by_what_it_has_learnt_now(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(20)))
        before, now = fitted("mine", seed=1), fitted("mine", seed=2)
        await teach(one, bucket, "v1", before)
        assert await scores(other, bucket) == alike(predicted(before, photos))

        await forget(one, bucket, "v1")
        await teach(one, bucket, "v1", now)

        assert await scores(other, bucket) == alike(predicted(now, photos))
        assert await scores(other, bucket, version_id="v1") == alike(predicted(now, photos))

    with_two(database_url, scenario)


def test_the_latest_version_of_a_model_and_the_latest_of_two_models_rank(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(20)))
        models = [fitted("mine", seed=seed) for seed in range(4)]
        for version_id, model_id, model in zip(("a1", "b1", "a2", "b2"), ("a", "b", "a", "b"), models, strict=True):
            await teach(one, bucket, version_id, model, model_id=model_id)
            assert await scores(other, bucket) == alike(predicted(model, photos))

        await forget(one, bucket, "b2")
        assert await scores(other, bucket) == alike(predicted(models[2], photos))
        await forget(one, bucket, "a2")
        assert await scores(other, bucket) == alike(predicted(models[1], photos))

    with_two(database_url, scenario)


def test_only_versions_that_may_rank_are_read_anew_with_every_label(database_url: str) -> None:
    """An app that is trained every hour has thousands of versions, each with the ids of all its concepts."""

    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        for version_id, model_id in (("a1", "a"), ("b1", "b"), ("a2", "a"), ("a3", "a")):
            await teach(one, bucket, version_id, fitted("mine"), model_id=model_id)

        heads = await other.matrices.heads.of_app(bucket, other.table.id, await other.matrices.versions(bucket))

        assert [(head.version_id, head.model_id) for head in heads] == [("a3", "a"), ("b1", "b")]
        older = await other.matrices.heads.of_version(bucket, other.table.id, "a2")
        assert older is not None
        assert (older.version_id, older.concept_ids) == ("a2", {"mine"})

    with_two(database_url, scenario)


def test_a_trained_model_knows_better_than_tagger_and_detector(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(20)))
        tagger = Tagger(["mine"], np.eye(1, DIMS, dtype=np.float32), np.ones(1, np.float32), np.zeros(1, np.float32))
        workflow = {"eye": blind_eye(tagger, ("mine",)), "detector_id": "detector"}
        assert await scores(other, bucket, **workflow) == alike(
            {photo.number: float(1 / (1 + np.exp(-float(photo.vector[0])))) for photo in photos}
        )
        model = fitted("mine")
        await teach(one, bucket, "v1", model)

        assert await scores(other, bucket, **workflow) == alike(predicted(model, photos))
        detecting = {"eye": blind_eye(None, ("mine",)), "detector_id": "detector"}
        assert await scores(other, bucket, **detecting) == alike(predicted(model, photos))

    with_two(database_url, scenario)


@pytest.mark.parametrize("memory_bytes", [2**30, 1000])
def test_concepts_that_exclude_each_other_sum_to_one(database_url: str, memory_bytes: int) -> None:
    """In memory, and in an app that PostgreSQL ranks; also for what came after the training."""

    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(150)))
        names = ("mine", "yours", "nobody's")
        for name in names[1:]:
            await one.database.execute(
                "INSERT INTO concepts (bucket, id, name, name_folded) VALUES (%s, %s, %s, %s)", [bucket, *[name] * 3]
            )
        model = fitted(*names, exclusive=True)
        await teach(one, bucket, "v1", model)
        photos += await one.add(bucket, random_unit(1000))

        found = [await scores(other, bucket, ConceptTerm(concept=ConceptName(id=name), value=1.0)) for name in names]

        for name, of_concept in zip(names, found, strict=True):
            assert of_concept == alike(predicted(model, photos, name))
        assert all(sum(by[photo.number] for by in found) == pytest.approx(1.0) for photo in photos)
        await one.label(bucket, photos[3], 0.0)
        assert (await scores(other, bucket))[photos[3].number] == 0.0

    with_two(database_url, scenario, memory_bytes=memory_bytes)


# A version that is named ---------------------------------------------------------------------------------------------


def test_a_rank_may_name_any_trained_version(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(20)))
        await one.label(bucket, photos[0], 1.0)
        untaught = await scores(one, bucket)
        old, new = fitted("mine", seed=1), fitted("mine", seed=2)
        await teach(one, bucket, "old", old)
        await teach(one, bucket, "new", new)

        by_old = await scores(other, bucket, version_id="old")

        assert by_old == alike({**predicted(old, photos), photos[0].number: 1.0})
        assert await scores(other, bucket) == alike({**predicted(new, photos), photos[0].number: 1.0})
        # The base workflow's own models predict as if nobody had taught the app anything.
        workflow = {"model_version_ids": frozenset({"general v1"})}
        assert await scores(other, bucket, version_id="general v1", **workflow) == untaught
        await forget(one, bucket, "old")
        with pytest.raises(SearchInvalid, match="'old' is neither a version of a model of this app nor"):
            await scores(other, bucket, version_id="old")

    with_two(database_url, scenario)


def test_a_version_that_cannot_predict_is_refused_by_name(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket, another = await one.new_bucket(), await one.new_bucket()
        await one.add(bucket, random_unit(1))
        await teach(one, bucket, "waits", fitted("mine"), status=QUEUED)
        await teach(one, bucket, "elsewhere", fitted("mine"), embedder_id=one.table.id + 1)
        await teach(one, bucket, "stranger", fitted("other"))
        await teach(one, another, "of another app", fitted("mine"))

        for version_id, complaint in (
            ("waits", "Version 'waits' of model 'model' has status 21103; rank by it once it has 21100"),
            (
                "elsewhere",
                "Version 'elsewhere' of model 'model' has learnt nothing about the vectors of this app's base",
            ),
            ("stranger", "Model version 'stranger' knows no concept with id 'mine'"),
            ("of another app", "'of another app' is neither a version of a model of this app nor part of its base"),
            ("nothing", "'nothing' is neither a version of a model of this app nor part of its base"),
        ):
            with pytest.raises(SearchInvalid, match=complaint):
                await scores(other, bucket, version_id=version_id)
        # And none of them ranks by itself: nobody has labelled anything.
        assert list((await scores(other, bucket)).values()) == [0.0]

    with_two(database_url, scenario)


# Together ------------------------------------------------------------------------------------------------------------


def test_searches_while_models_come_and_go_see_one_or_the_other(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(40)))
        models = [fitted("mine", "yours", seed=seed, exclusive=seed % 2 == 1) for seed in range(12)]
        of_models = [predicted(model, photos) for model in models]
        known = [{photo.number: 0.0 for photo in photos}, *of_models]
        done = asyncio.Event()

        async def keep_asking(server: Process) -> int:
            count = 0
            while not done.is_set():
                found = await scores(server, bucket)
                assert any(found == alike(values) for values in known)
                count += 1
            return count

        asking = [asyncio.create_task(keep_asking(server)) for server in (one, other)]
        for number, model in enumerate(models):
            await teach(one, bucket, f"v{number}", model)
            assert await scores(other, bucket) == alike(of_models[number])
            if number % 3 == 2:
                await forget(one, bucket, f"v{number}")
                assert await scores(other, bucket) == alike(of_models[number - 1])
        done.set()

        assert all(count > 3 for count in await asyncio.gather(*asking))

    with_two(database_url, scenario)


def test_what_an_app_was_taught_goes_with_it(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        await one.add(bucket, random_unit(1))
        await teach(one, bucket, "v1", fitted("mine"))
        versions = await one.matrices.versions(bucket)
        assert await one.matrices.heads.of_app(bucket, one.table.id, versions)

        await one.database.execute("DELETE FROM models WHERE bucket = %s", [bucket])
        one.matrices.forget(bucket)

        assert not await one.matrices.heads.of_app(bucket, one.table.id, versions)

    with_two(database_url, scenario)


# Over the wire -------------------------------------------------------------------------------------------------------


def of_app(app: App) -> dict[str, dict[str, float]]:
    """The same rank by every rpc that searches: input id to score."""
    rank = by_concept("warm")
    legacy = And(output=Output(data=Data(concepts=[Concept(id="warm", value=1)])))
    hits = {
        "annotations": app.rank(rank),
        "inputs": app.rank(rank, inputs=True),
        "legacy": app.call("PostSearches", query=Query(ands=[legacy])).hits,
    }
    return {name: {hit.input.id: hit.score for hit in found} for name, found in hits.items()}


def of_model(app: App, input_ids: Sequence[str], pictures: Sequence[bytes]) -> dict[str, float]:
    """What the model says of pictures that it is shown."""
    answer = app.call("PostModelOutputs", model_id="colours", inputs=[of_bytes(data) for data in pictures])
    return {
        input_id: next(concept.value for concept in output.data.concepts if concept.id == "warm")
        for input_id, output in zip(input_ids, answer.outputs, strict=True)
    }


@pytest.mark.parametrize("exclusive", [False, True])
def test_every_rpc_ranks_by_what_was_just_trained(app: App, exclusive: bool) -> None:
    labelled = teach_colours(app)
    pictures = [coloured((r, 90, 200 - r), seed) for seed, r in enumerate((20, 90, 180))]
    others = app.indexed(*(of_bytes(data) for data in pictures))
    before = of_app(app)

    app.call("PostModels", models=[classifier("colours", "warm", "cold", concepts_mutually_exclusive=exclusive)])
    version_id = train(app, "colours")
    after = of_app(app)

    expected = of_model(app, others, pictures)
    for name, found in after.items():
        assert found.keys() == before[name].keys() == {*labelled, *others}
        assert {input_id: found[input_id] for input_id in others} == pytest.approx(expected, abs=2e-3)
        assert [found[input_id] for input_id in labelled[:4]] == [1.0] * 4
    named = Rank(annotation=Annotation(model_version_id=version_id, data=Data(concepts=[Concept(id="warm", value=1)])))
    assert {hit.input.id: hit.score for hit in app.rank(named)} == after["annotations"]
    app.call("DeleteModel", model_id="colours")
    assert of_app(app) == before


def test_a_version_can_be_named_in_the_search_after_its_training(app: App) -> None:
    """Also by a process that takes what it knows of the app for current, because nothing has changed for a while."""
    inputs = app.indexed(*(of_bytes(coloured((r, 90, 200 - r), r)) for r in (20, 180)))
    app.call("PostConcepts", concepts=[Concept(id="warm")])
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        assert len(app.rank(by_concept("warm"))) == 2
    bucket, embedder_id, dims = app.server.sql(
        "SELECT a.first_bucket, e.id, e.dims FROM apps a, embedders e WHERE a.id = %s", app.id
    )[0]
    model = ConceptModel(("warm",), np.eye(1, dims, dtype=np.float32), np.zeros(1, np.float32), np.ones(1, np.float32))
    with psycopg.connect(app.server.database_url) as connection:
        connection.execute(
            "INSERT INTO models (bucket, id, name, model_type_id) VALUES (%s, 'm', 'm', 'embedding-classifier')",
            [bucket],
        )
        connection.execute(
            "INSERT INTO model_versions (bucket, id, model_id, status, concept_ids) VALUES (%s, 'v', 'm', 21100, %s)",
            [bucket, ["warm"]],
        )
        connection.execute(
            "INSERT INTO model_fits (bucket, model_version_id, embedder_id, fitted) VALUES (%s, 'v', %s, %s)",
            [bucket, embedder_id, model.dump()],
        )
        connection.execute(queries.load("buckets")["next_version"], {"bucket": bucket, "labels": True})

    rank = by_concept("warm")
    rank.annotation.model_version_id = "v"
    hits = app.rank(rank)

    assert [hit.input.id for hit in hits] == inputs
    assert [hit.score for hit in hits] == [pytest.approx(1 / (1 + np.exp(-1)))] * 2


def test_a_search_of_a_time_takes_the_labels_of_then_and_the_models_of_now(app: App) -> None:
    first = app.indexed(of_bytes(coloured((200, 40, 40), 1)), of_bytes(coloured((40, 60, 200), 2)))
    moment = app.call("GetInput", input_id=first[1]).input.modified_at
    wanted = by_concept("warm")
    teach_colours(app)
    app.annotate(Annotation(input_id=first[1], data=Data(concepts=[Concept(id="warm", value=1)])))
    search = Search(id="of-then", query=Query(ranks=[wanted]), as_of=instant(moment.ToDatetime(UTC)))
    save(app, search, kind="Inputs")
    before = {hit.input.id: hit.score for hit in run(app, "of-then")}

    app.call("PostModels", models=[classifier("colours", "warm")])
    train(app, "colours")
    after = {hit.input.id: hit.score for hit in run(app, "of-then")}

    # Nobody had called anything warm by then, so nothing was known before there was a model.
    assert before == dict.fromkeys(first, 0.0)
    assert after.keys() == before.keys()
    assert 0.5 < after[first[0]] < 1.0
    assert 0.0 < after[first[1]] < 0.5
    now = {hit.input.id: hit.score for hit in app.rank(wanted, inputs=True)}
    assert now[first[1]] == 1.0
