"""What to label next, as programs and the command line ask for it: ``algorithm: active_learning``."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, BoundingBox, Concept, Data, Filter, RegionInfo, Search
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from numpy.typing import NDArray
from tests.eyes import blind_eye
from tests.integration.searching import DIMS, Photo, Process, process
from tests.integration.serving import App, Server, by_concept, by_image, hit_inputs, new_app, of_bytes, picture
from tests.integration.serving import run_command as run

from sightrank.errors import SearchInvalid
from sightrank.search.concepts import ConceptBook
from sightrank.search.engine import SearchEngine
from sightrank.search.fits import Fits
from sightrank.search.follow import Matrices
from sightrank.search.plan import Plan
from sightrank.search.query import ConceptName, ConceptTerm, FieldCondition, Query, Rank, Unit
from sightrank.search.query import Filter as FilterOf
from sightrank.search.scope import SearchScope
from sightrank.store.buckets import next_version
from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.vocabulary import Vocabulary

INVALID = 40002
PICTURES = 12
MINE = ConceptTerm(concept=ConceptName(id="mine"), value=1.0)
SCALE, BIAS = 6.0, -2.0


# The engine over a real database ------------------------------------------------------------------------------------


def photos(count: int) -> list[NDArray[np.float64]]:
    vectors = np.random.default_rng(3).normal(size=(count, DIMS))
    return list(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


async def taught(server: Process, bucket: int) -> NDArray[np.float64]:
    """A trained model of the concept ``mine``, and the probability it gives to any vector."""
    direction = np.eye(DIMS)[0]
    model = ConceptModel(["mine"], direction[None].astype("f"), np.array([SCALE], "f"), np.array([BIAS], "f"))
    now = datetime.now(UTC)
    async with server.database.transaction() as connection:
        await connection.execute(
            "INSERT INTO models (bucket, id, name, model_type_id, concept_ids)"
            " VALUES (%s, 'm', 'm', 'embedding-classifier', '{mine}')",
            [bucket],
        )
        await connection.execute(
            "INSERT INTO model_versions (bucket, id, model_id, created_at, completed_at, status, concept_ids)"
            " VALUES (%s, 'v', 'm', %s, %s, 21100, '{mine}')",
            [bucket, now, now],
        )
        await connection.execute(
            "INSERT INTO model_fits (bucket, model_version_id, embedder_id, fitted) VALUES (%s, 'v', %s, %s)",
            [bucket, server.table.id, model.dump()],
        )
        await next_version(connection, bucket, labels=True)
    return direction


def asking(unit: Unit = Unit.INPUT, **changes: object) -> Query:
    query = Query(unit=unit, filters=(), ranks=(Rank(terms=(MINE,)),), min_value=0.0, offset=0, limit=20, suggests=True)
    return replace(query, **changes)  # type: ignore[arg-type]


def scope(server: Process, bucket: int) -> SearchScope:
    return SearchScope(bucket=bucket, default_language="en", table=server.table, eye=blind_eye())


def expected(shown: list[Photo], direction: NDArray[np.float64]) -> tuple[list[int], dict[int, float]]:
    """Input numbers in the order in which to label them, and how uncertain each is: the definition."""
    vectors = {photo.number: photo.vector.astype(np.float64) for photo in shown}
    likely = {number: 1 / (1 + np.exp(-(SCALE * float(v @ direction) + BIAS))) for number, v in vectors.items()}
    uncertain = {number: 1 - abs(2 * p - 1) for number, p in likely.items()}
    order: list[int] = []
    while len(order) < len(shown):
        gains = {
            number: uncertain[number] * (1 - max([0.0, *(min(1.0, float(v @ vectors[other])) for other in order)]))
            for number, v in vectors.items()
            if number not in order
        }
        order.append(max(gains, key=lambda number: gains[number]))
    return order, uncertain


@pytest.mark.parametrize("choice", ["exact", "sql"])
@pytest.mark.parametrize("unit", list(Unit))
def test_the_engine_gives_the_greedy_order_without_what_is_labelled(database_url: str, choice: str, unit: Unit) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            bucket = await server.new_bucket()
            shown = await server.add(bucket, *photos(60))
            direction = await taught(server, bucket)
            await server.label(bucket, shown[5], 1.0)
            await server.label(bucket, shown[6], 0.0)
            rest = [photo for photo in shown if photo not in shown[5:7]]
            order, uncertain = expected(rest, direction)
            matrices = Matrices(server.database, Fits(server.database), memory_bytes=2**30, choice=choice)  # type: ignore[arg-type]
            engine = SearchEngine(server.database, matrices, ConceptBook(Vocabulary.empty()), _no_image)

            hits = await engine.run(scope(server, bucket), asking(unit, limit=100))
            pages = [
                await engine.run(scope(server, bucket), asking(unit, offset=offset, limit=7)) for offset in (0, 7, 49)
            ]

            assert [hit.input_number for hit in hits] == order
            assert [hit.score for hit in hits] == pytest.approx([uncertain[number] for number in order], abs=1e-6)
            assert [[hit.input_number for hit in page] for page in pages] == [order[:7], order[7:14], order[49:56]]

    asyncio.run(scenario())


async def _no_image(*_: object) -> NDArray[np.float32]:
    raise AssertionError("no search here has an image")


@pytest.mark.parametrize("plan", [Plan.FILTER_THEN_RANK, Plan.RANK_THEN_FILTER])
def test_filters_narrow_what_is_suggested_whichever_goes_first(database_url: str, plan: Plan) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            bucket = await server.new_bucket()
            shown = await server.add(bucket, *photos(40))
            direction = await taught(server, bucket)
            chosen = FilterOf(
                groups=(tuple(FieldCondition(field="input.id", value=photo.id) for photo in shown[10:25]),)
            )
            engine = SearchEngine(
                server.database, server.matrices, ConceptBook(Vocabulary.empty()), _no_image, forced=plan
            )

            hits = await engine.run(scope(server, bucket), asking(filters=(chosen,)))

            assert [hit.input_number for hit in hits] == expected(shown[10:25], direction)[0]

    asyncio.run(scenario())


def test_only_what_is_uncertain_enough_is_suggested(database_url: str) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            bucket = await server.new_bucket()
            shown = await server.add(bucket, *photos(40))
            _, uncertain = expected(shown, await taught(server, bucket))

            hits = await server.engine.run(scope(server, bucket), asking(min_value=0.5, limit=40))

            assert {hit.input_number for hit in hits} == {number for number, u in uncertain.items() if u >= 0.5}
            assert 0 < len(hits) < 40

    asyncio.run(scenario())


def test_what_is_less_uncertain_than_the_pool_follows_by_uncertainty(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightrank.search.suggest.POOL", 10)

    async def scenario() -> None:
        async with process(database_url) as server:
            bucket = await server.new_bucket()
            shown = await server.add(bucket, *photos(30))
            direction = await taught(server, bucket)
            _, uncertain = expected(shown, direction)
            falling = sorted(uncertain, key=lambda number: -uncertain[number])
            pool = [photo for photo in shown if photo.number in falling[:10]]

            found = [
                hit.input_number
                for offset in (0, 8, 16, 24)
                for hit in await server.engine.run(scope(server, bucket), asking(offset=offset, limit=8))
            ]

            assert found == expected(pool, direction)[0] + falling[10:]

    asyncio.run(scenario())


def test_of_a_concept_that_nothing_tells_there_is_nothing_to_suggest(database_url: str) -> None:
    async def scenario() -> None:
        async with process(database_url) as server:
            bucket = await server.new_bucket()
            shown = await server.add(bucket, *photos(5))

            with pytest.raises(SearchInvalid, match="label a first example"):
                await server.engine.run(scope(server, bucket), asking())
            await server.label(bucket, shown[0], 1.0)
            assert len(await server.engine.run(scope(server, bucket), asking())) == 4

    asyncio.run(scenario())


# A server ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def filled(server: Server, stub: V2Stub) -> App:
    """An app of twelve pictures. p0 and p1 are labelled "mine", p2 is labelled not to be; p3 has a labelled region."""
    app = new_app(server, stub)
    app.indexed(*(of_bytes(picture(number), f"p{number}") for number in range(PICTURES)))
    said = [Annotation(input_id=f"p{n}", data=Data(concepts=[Concept(id="mine", value=n < 2)])) for n in range(3)]
    box = RegionInfo(bounding_box=BoundingBox(top_row=0.1, left_col=0.1, bottom_row=0.9, right_col=0.9))
    region = resources_pb2.Region(region_info=box, data=Data(concepts=[Concept(id="mine", value=1)]))
    app.annotate(*said, Annotation(input_id="p3", data=Data(regions=[region])))
    return app


def suggestions(app: App, *filters: Filter, rpc: str = "PostInputsSearches", **page: int) -> list[resources_pb2.Hit]:
    query = resources_pb2.Query(ranks=[by_concept("mine")], filters=filters)
    searches = [Search(query=query, algorithm="active_learning")]
    return list(app.call(rpc, searches=searches, pagination=service_pb2.Pagination(**page)).hits)


def test_inputs_without_a_label_are_suggested_once(filled: App) -> None:
    hits = suggestions(filled)

    assert sorted(hit_inputs(hits)) == sorted(f"p{number}" for number in range(4, PICTURES))
    assert all(0 < hit.score <= 1 for hit in hits)


def test_areas_without_a_label_are_suggested_beside_labelled_ones(filled: App) -> None:
    hits = suggestions(filled, rpc="PostAnnotationsSearches")

    assert sorted(hit_inputs(hits)) == sorted(f"p{number}" for number in range(3, PICTURES))


def test_pages_are_parts_of_one_order(filled: App) -> None:
    whole = hit_inputs(suggestions(filled))

    assert [hit_inputs(suggestions(filled, page=n, per_page=3)) for n in (1, 2, 3, 4)] == [
        whole[:3],
        whole[3:6],
        whole[6:],
        [],
    ]


def test_a_filter_narrows(filled: App) -> None:
    one = Filter(input=resources_pb2.Input(id="p7"))

    assert hit_inputs(suggestions(filled, one)) == ["p7"]


def test_a_label_takes_a_suggestion_away_and_its_deletion_brings_it_back(server: Server, stub: V2Stub) -> None:
    app = new_app(server, stub)
    app.indexed(*(of_bytes(picture(number), f"p{number}") for number in range(4)))
    app.annotate(Annotation(input_id="p0", data=Data(concepts=[Concept(id="mine", value=1)])))
    assert sorted(hit_inputs(suggestions(app))) == ["p1", "p2", "p3"]

    (said,) = app.annotate(Annotation(input_id="p2", data=Data(concepts=[Concept(id="mine", value=0)])))
    assert sorted(hit_inputs(suggestions(app))) == ["p1", "p3"]

    app.call("DeleteAnnotation", input_id="p2", annotation_id=said.id)
    assert sorted(hit_inputs(suggestions(app))) == ["p1", "p2", "p3"]


def test_rest_asks_as_grpc_does(filled: App) -> None:
    search = {
        "query": {"ranks": [{"annotation": {"data": {"concepts": [{"id": "mine"}]}}}]},
        "algorithm": "active_learning",
    }

    answer = filled.rest("POST", "/inputs/searches", {"searches": [search]})

    assert [hit["input"]["id"] for hit in answer["hits"]] == hit_inputs(suggestions(filled))


def test_unsuitable_ranks_are_refused_with_what_is_wanted(filled: App) -> None:
    for ranks in ([], [by_image(picture(1))], [by_concept("mine"), by_concept("mine")]):
        search = Search(query=resources_pb2.Query(ranks=ranks), algorithm="active_learning")
        answer = filled.ask("PostInputsSearches", searches=[search])

        assert answer.status.code == INVALID
        assert "exactly one rank with exactly one concept" in answer.status.details


def test_it_may_be_saved_and_run_again(filled: App) -> None:
    query = resources_pb2.Query(ranks=[by_concept("mine")])
    search = Search(id="next", save=True, query=query, algorithm="active_learning")
    filled.call("PostInputsSearches", searches=[search])

    again = filled.call("PostSearchesByID", id="next").hits

    assert hit_inputs(again) == hit_inputs(suggestions(filled))


def test_a_concept_of_general_can_be_taught_further(filled: App) -> None:
    query = resources_pb2.Query(ranks=[by_name("people")])
    hits = filled.call("PostInputsSearches", searches=[Search(query=query, algorithm="active_learning")]).hits
    likely = {hit.input.id: hit.score for hit in filled.rank(by_name("people"), inputs=True)}

    assert len(hits) == PICTURES
    for hit in hits:
        assert hit.score == pytest.approx(1 - abs(2 * likely[hit.input.id] - 1), abs=1e-5)


def by_name(name: str) -> resources_pb2.Rank:
    return resources_pb2.Rank(annotation=Annotation(data=Data(concepts=[Concept(name=name, value=1)])))


# The command ----------------------------------------------------------------------------------------------------------


def rows(text: str) -> list[list[str]]:
    """The cells of the table's rows, split where there are two spaces."""
    lines = text.splitlines()
    (head,) = [place for place, line in enumerate(lines) if line.split()[:2] == ["input", "where"]]
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[head + 1 :] if line.strip()]


def test_the_command_lists_suggestions_with_what_is_likely(server: Server, filled: App) -> None:
    done = run("suggest", "--concept", "mine", "--limit", "5", "--app", filled.id, "--data-dir", server.data_dir)
    likely = {hit.input.id: hit.score for hit in filled.rank(by_concept("mine")) if not hit.annotation.data.regions}

    assert done.returncode == 0, done.stderr
    found = rows(done.stdout)
    assert [row[1] for row in found] == hit_inputs(suggestions(filled, rpc="PostAnnotationsSearches", per_page=5))
    assert [row[0] for row in found] == ["1", "2", "3", "4", "5"]
    for row in found:
        assert row[2] == "whole image"
        assert float(row[3]) == pytest.approx(likely[row[1]], abs=6e-4)
        assert row[4] in ("almost sure that not", "rather not", "undecided", "rather yes", "almost sure that yes")


def test_the_command_takes_the_id_of_a_concept_as_well_as_its_name(server: Server, stub: V2Stub) -> None:
    app = new_app(server, stub)
    app.call("PostConcepts", concepts=[Concept(id="ours", name="Our Garden")])
    app.indexed(of_bytes(picture(1), "labelled", concepts=[Concept(id="ours", value=1)]), of_bytes(picture(2), "other"))

    for concept in ("ours", "Our Garden"):
        done = run("suggest", "--concept", concept, "--app", app.id, "--data-dir", server.data_dir)
        assert done.returncode == 0, done.stderr
        assert [row[1] for row in rows(done.stdout)] == ["other"]


def test_the_command_says_when_nothing_is_left(server: Server, stub: V2Stub) -> None:
    app = new_app(server, stub)
    app.indexed(of_bytes(picture(1), "only", concepts=[Concept(id="mine", value=1)]))

    done = run("suggest", "--concept", "mine", "--app", app.id, "--data-dir", server.data_dir)

    assert done.returncode == 0, done.stderr
    assert "Nothing is left to label with mine" in done.stdout


@pytest.mark.parametrize(
    ("concept", "mentions"), [("catxyz", "No concept with id or name 'catxyz'"), ("", "say which concept you mean")]
)
def test_the_command_tells_in_one_line_what_it_cannot_do(
    server: Server, filled: App, concept: str, mentions: str
) -> None:
    done = run("suggest", "--concept", concept, "--app", filled.id, "--data-dir", server.data_dir)

    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert mentions in done.stderr
