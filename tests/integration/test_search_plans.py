"""Every plan and every ranker gives the same hits: plans are about time, never about answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.eyes import blind_eye
from tests.integration.searching import DIMS, MUCH, Photo, Process, like, process, random_unit

from sightrank.errors import SearchInvalid
from sightrank.ingest.rows import new_id
from sightrank.search import candidates
from sightrank.search import plan as planning
from sightrank.search.concepts import ConceptBook
from sightrank.search.engine import Hit, SearchEngine
from sightrank.search.fits import Fits
from sightrank.search.follow import Matrices, RankerChoice
from sightrank.search.graph import Graph
from sightrank.search.matrix import Matrix
from sightrank.search.plan import Plan
from sightrank.search.query import (
    ConceptCondition,
    ConceptName,
    ConceptTerm,
    FieldCondition,
    Filter,
    InputTerm,
    Query,
    Rank,
    Term,
    Unit,
)
from sightrank.search.scope import SearchScope
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database
from sightrank.vision.vocabulary import Vocabulary

MINE = ConceptName(id="mine")
PHOTOS = 400
CHOICES: list[RankerChoice] = ["exact", "graph", "sql"]


def engine(server: Process, matrices: Matrices | None = None, forced: Plan | None = None) -> SearchEngine:
    async def no_image(bucket: int, term: Any) -> NDArray[np.float32]:
        raise AssertionError("no search here has an image")

    return SearchEngine(
        server.database, matrices or server.matrices, ConceptBook(Vocabulary.empty()), no_image, forced=forced
    )


def scope(server: Process, bucket: int) -> SearchScope:
    return SearchScope(bucket=bucket, default_language="en", table=server.table, eye=blind_eye())


def query(*terms: Term, unit: Unit = Unit.ANNOTATION, **changes: Any) -> Query:
    ranks = tuple(Rank(terms=(term,)) for term in terms)
    fields: dict[str, Any] = {"filters": (), "ranks": ranks, "min_value": 0.0, "offset": 0, "limit": 20}
    return Query(unit=unit, **(fields | changes))


def only(*, negate: bool = False) -> Filter:
    """What is labelled with ``mine``, or is not."""
    return Filter(groups=((ConceptCondition(concept=MINE, positive=True),),), negate=negate)


def of_status(*values: int) -> Filter:
    return Filter(groups=(tuple(FieldCondition(field="input.status.code", value=value) for value in values),))


async def labelled_app(server: Process, *, share: float, photos: int = PHOTOS) -> tuple[int, list[Photo]]:
    """An app, of whose inputs about this share is labelled with ``mine``; all have an input-level annotation."""
    bucket = await server.new_bucket()
    random = Random(photos)
    found = await server.add(bucket, *(random_unit(seed) for seed in range(photos)))
    async with server.database.transaction() as connection:
        for photo in found:
            await _annotate(connection, bucket, photo, has_it=random.random() < share)
        await next_version(connection, bucket, labels=True)
    await server.database.execute("ANALYZE")
    return bucket, found


async def _annotate(connection: Connection, bucket: int, photo: Photo, *, has_it: bool) -> None:
    name = new_id()
    await connection.execute(
        "INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, input_level,"
        " trusted, user_id, concept_ids, concept_values) VALUES (%s, %s, %s, %s, now(), now(), 24150, true, true, 'me',"
        " %s, %s)",
        [bucket, photo.number, name, photo.area_id, ["mine"] if has_it else [], [1.0] if has_it else []],
    )
    if has_it:
        await connection.execute(
            "INSERT INTO labels (bucket, concept_id, area_id, annotation_id, input_number, value, trusted, modified_at)"
            " VALUES (%s, 'mine', %s, %s, %s, 1, true, now())",
            [bucket, photo.area_id, name, photo.number],
        )


def run(url: str, scenario: Callable[[Process], Awaitable[None]], **options: Any) -> None:
    async def opened() -> None:
        async with process(url, **options) as server:
            await scenario(server)

    asyncio.run(opened())


@asynccontextmanager
async def choosing(server: Process, choice: RankerChoice, **options: Any) -> AsyncIterator[Matrices]:
    matrices = Matrices(server.database, Fits(server.database), **({"memory_bytes": MUCH, "choice": choice} | options))
    try:
        yield matrices
    finally:
        await matrices.close()


def told(hits: list[Hit]) -> list[tuple[int, int | None, str | None, float]]:
    return [(hit.input_number, hit.area_id, hit.annotation_id, round(hit.score, 9)) for hit in hits]


# The same hits by every plan ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1, 0.01, 0.0])
def test_every_plan_gives_the_same_hits_at_any_selectivity(share: float, database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket, photos = await labelled_app(server, share=share)
        app = scope(server, bucket)
        engines = [engine(server, forced=forced) for forced in (None, Plan.FILTER_THEN_RANK, Plan.RANK_THEN_FILTER)]
        random = Random(7)
        for turn in range(12):
            terms: list[Term] = [like(random_unit(1000 + turn))]
            if turn % 3 == 1:
                terms.append(ConceptTerm(concept=MINE, value=0.0))
            if turn % 3 == 2:
                terms = [InputTerm(input_id=photos[turn].id)]
            asked = query(
                *terms,
                unit=random.choice(list(Unit)),
                filters=(only(negate=random.random() < 0.3), of_status(30000, 30001)),
                offset=random.choice([0, 0, 7, 150]),
                limit=random.choice([1, 20, 100]),
                min_value=random.choice([0.0, 0.0, 0.6]),
            )
            answers = [told(await one.run(app, asked)) for one in engines]

            assert answers[0] == answers[1] == answers[2], asked

    run(database_url, scenario)


def test_the_survivors_are_those_of_the_filter_in_the_order_of_the_rank(database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket, photos = await labelled_app(server, share=0.3)
        rows = await server.database.rows("SELECT area_id FROM labels WHERE bucket = %s", [bucket])
        labelled = {area_id for (area_id,) in rows}
        direction = random_unit(5000)
        order = sorted(photos, key=lambda photo: -float(photo.vector.astype(float) @ direction))
        expected = [photo.number for photo in order if photo.area_id in labelled]

        for forced in (None, Plan.FILTER_THEN_RANK, Plan.RANK_THEN_FILTER):
            searching = engine(server, forced=forced)
            pages = [
                await searching.run(
                    scope(server, bucket), query(like(direction), filters=(only(),), offset=offset, limit=9)
                )
                for offset in range(0, len(expected) + 9, 9)
            ]

            assert [hit.input_number for page in pages for hit in page] == expected
            assert all(hit.annotation_id for page in pages for hit in page)

    run(database_url, scenario)


def test_the_plan_changes_with_what_the_filter_leaves(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small bound: many candidates are ranked first, until so few of the best survive that the filter goes
    first after all."""
    monkeypatch.setattr(planning, "_LEAST_BOUND", 10)
    monkeypatch.setattr(planning, "_BOUND", 0)
    monkeypatch.setattr(planning, "_FIRST_LOOK", 4)
    monkeypatch.setattr(planning, "_MOST_LOOKED_AT", 40)
    statements: list[str] = []
    original = Database.rows

    async def watching(self: Database, statement: Any, parameters: Any = None) -> Any:
        if parameters is None:
            statements.append("surviving")
        return await original(self, statement, parameters)

    async def scenario(server: Process) -> None:
        bucket, _ = await labelled_app(server, share=0.5)
        app = scope(server, bucket)
        monkeypatch.setattr(Database, "rows", watching)
        searching, filter_first = engine(server), engine(server, forced=Plan.FILTER_THEN_RANK)
        for unit in Unit:
            for share, filters in ((0.5, (only(),)), (0.5, (only(negate=True),))):
                asked = query(like(random_unit(99)), unit=unit, filters=filters, limit=5)
                statements.clear()

                assert told(await searching.run(app, asked)) == told(await filter_first.run(app, asked)), share
                assert statements  # looked at hits in order
            deep = query(like(random_unit(99)), unit=unit, filters=(only(),), offset=190, limit=5)
            assert told(await searching.run(app, deep)) == told(await filter_first.run(app, deep))

    run(database_url, scenario)


def test_the_filter_goes_first_after_all_when_none_of_the_best_survive(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planning, "_LEAST_BOUND", 10)
    monkeypatch.setattr(planning, "_BOUND", 0)
    monkeypatch.setattr(planning, "_FIRST_LOOK", 4)
    monkeypatch.setattr(planning, "_MOST_LOOKED_AT", 60)
    bounds: list[int | None] = []
    original = candidates.read

    async def watching(*arguments: Any, at_most: int | None = None) -> Any:
        bounds.append(at_most)
        return await original(*arguments, at_most=at_most)

    async def scenario(server: Process) -> None:
        bucket, photos = await labelled_app(server, share=0.0)
        direction = random_unit(5000)
        order = sorted(photos, key=lambda photo: float(photo.vector.astype(float) @ direction))
        for photo in order[:15]:  # the farthest of all
            await server.label(bucket, photo, 1.0)
        monkeypatch.setattr(candidates, "read", watching)
        asked = query(like(direction), filters=(only(),), limit=5)

        hits = await server.engine.run(scope(server, bucket), asked)

        assert [hit.input_number for hit in hits] == [photo.number for photo in reversed(order[10:15])]
        assert bounds == [11, None]

    run(database_url, scenario)


# Rankers --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", Unit)
def test_every_ranker_gives_the_same_hits(unit: Unit, database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket, photos = await labelled_app(server, share=0.2)
        app = scope(server, bucket)
        asked = [
            query(like(random_unit(700)), unit=unit, limit=30),
            query(like(random_unit(701)), unit=unit, offset=95, limit=20),
            query(like(random_unit(702)), like(random_unit(703)), unit=unit),
            query(ConceptTerm(concept=MINE, value=1.0), unit=unit, limit=120),
            query(InputTerm(input_id=photos[3].id), unit=unit),
            query(like(random_unit(704)), unit=unit, filters=(only(),), limit=500),
            replace(query(unit=unit), ranks=(Rank(terms=(like(random_unit(705)),), negate=True),)),
        ]
        expected = [told(await server.engine.run(app, one)) for one in asked]
        for choice in CHOICES:
            async with choosing(server, choice) as matrices:
                searching = engine(server, matrices)

                assert [told(await searching.run(app, one)) for one in asked] == expected, choice
                (state,) = matrices.states()
                assert (state.bucket, state.embedder_id, state.rows, state.ranker) == (
                    bucket,
                    server.table.id,
                    PHOTOS,
                    choice,
                )

    run(database_url, scenario)


def test_pages_of_the_graph_neither_skip_nor_repeat(database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket, _ = await labelled_app(server, share=0.0, photos=900)
        app = scope(server, bucket)
        async with choosing(server, "graph") as matrices:
            searching = engine(server, matrices)
            for turn in range(5):
                direction = like(random_unit(300 + turn))
                whole = told(await server.engine.run(app, query(direction, limit=900)))
                pages = [
                    hit
                    for offset in range(0, 910, 35)
                    for hit in told(await searching.run(app, query(direction, offset=offset, limit=35)))
                ]

                assert pages == whole

    run(database_url, scenario)


def test_the_graph_follows_what_is_added_and_deleted_and_is_built_anew(database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket, photos = await labelled_app(server, share=0.0)
        async with choosing(server, "graph") as matrices:
            searching = engine(server, matrices)
            for turn in range(6):
                await server.delete(bucket, *photos[turn * 20 : turn * 20 + 10])
                (new,) = await server.add(bucket, random_unit(2000 + turn))
                asked = query(like(random_unit(2000 + turn)), limit=50)

                hits = await searching.run(scope(server, bucket), asked)

                assert hits[0].input_number == new.number
                assert told(hits) == told(await server.engine.run(scope(server, bucket), asked))
            assert matrices.states()[0].ranker == "graph"

    run(database_url, scenario)


def test_an_app_beyond_the_memory_is_ranked_by_postgresql_until_it_fits_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightrank.search.follow._COUNTED_ANEW_AFTER", 2)

    async def scenario(server: Process) -> None:
        bucket = await server.new_bucket()
        photos = await server.add(bucket, *(random_unit(seed) for seed in range(30)))
        states = []
        async with choosing(server, "auto", memory_bytes=20 * Matrix.row_bytes(DIMS)) as matrices:
            searching = engine(server, matrices)

            async def best(seed: int) -> int:
                hits = await searching.run(scope(server, bucket), query(like(random_unit(seed))))
                states.append((matrices.states()[0].ranker, matrices.states()[0].rows))
                return hits[0].input_number

            assert await best(21) == photos[21].number
            for photo in photos[:15]:
                await server.delete(bucket, photo)
            assert await best(22) == photos[22].number
            photos += await server.add(bucket, *(random_unit(seed) for seed in range(30, 36)))
            assert await best(33) == photos[33].number
            assert await best(17) == photos[17].number

        # 30 do not fit, 15 do; 21, loaded bit by bit, do not again.
        assert states == [("sql", 21), ("exact", 15), ("sql", 21), ("sql", 21)]

    run(database_url, scenario)


# Kept candidates ------------------------------------------------------------------------------------------------------


def test_the_same_filters_again_need_no_database_before_the_hits(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(server: Process) -> None:
        bucket, _ = await labelled_app(server, share=0.2)
        app = scope(server, bucket)
        for unit in Unit:
            asked = [query(like(random_unit(seed)), unit=unit, filters=(only(),)) for seed in range(3)]
            unseen = server.engine.seen(app, asked[0])
            await server.engine.run(app, asked[0])
            await server.engine.run(app, asked[0])
            fresh = [told(await engine(server).run(app, one)) for one in asked]
            with monkeypatch.context() as patch:
                patch.setattr(Database, "connection", _refuse)
                again = []
                for one in asked:
                    versions = server.engine.seen(app, one)
                    assert versions is not None
                    again.append(told(await server.engine.run(app, one, versions)))

            assert unseen is None
            assert again == fresh

    run(database_url, scenario)


def _refuse(_: Database) -> Any:
    raise AssertionError("asked the database")


def test_a_commit_makes_kept_candidates_worthless(database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket, photos = await labelled_app(server, share=0.2)
        app = scope(server, bucket)
        asked = query(like(photos[0].vector), filters=(only(),), limit=PHOTOS)
        await server.engine.run(app, asked)
        for photo in photos[:5]:
            before = {hit.input_number for hit in await server.engine.run(app, asked)}
            await server.label(bucket, photo, 1.0)
            after = {hit.input_number for hit in await server.engine.run(app, asked)}

            assert after == before | {photo.number}

    run(database_url, scenario)


def test_names_mean_what_they_mean_now(database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket, _ = await labelled_app(server, share=0.2, photos=30)
        app = scope(server, bucket)
        rex = ConceptTerm(concept=ConceptName(name="Rex"), value=1.0)
        of_rex = Filter(groups=((ConceptCondition(concept=rex.concept, positive=True),),))

        async def both() -> tuple[int, list[int]]:
            """Hits of the filter; scores above 0 of the rank, as the API asks for them."""
            filtered, ranked = query(like(random_unit(1)), filters=(of_rex,), limit=30), query(rex, limit=30)
            hits = [await server.engine.run(app, asked, server.engine.seen(app, asked)) for asked in (filtered, ranked)]
            return len(hits[0]), [hit.input_number for hit in hits[1] if hit.score == 1.0]

        with pytest.raises(SearchInvalid, match="No concept with name 'Rex'"):
            await both()
        labelled = len(await server.database.rows("SELECT FROM labels WHERE bucket = %s", [bucket]))
        for name, expected in (("rex", labelled), ("max", 0), ("rex", labelled)):
            async with server.database.transaction() as connection:
                await connection.execute(
                    "UPDATE concepts SET name = %s, name_folded = %s WHERE bucket = %s", [name, name, bucket]
                )
                await next_version(connection, bucket, labels=False)
            await server.matrices.versions(bucket)
            if not expected:
                with pytest.raises(SearchInvalid, match="No concept with name 'Rex'"):
                    await both()
                continue
            for _ in range(3):
                found, certain = await both()
                assert (found, len(certain)) == (expected, expected)

    run(database_url, scenario)


def test_writers_and_filtered_searches_at_once(database_url: str) -> None:
    """Whoever labels sees the label in the very next filtered search, whatever others are at."""

    async def scenario(server: Process) -> None:
        bucket, photos = await labelled_app(server, share=0.1, photos=60)
        app = scope(server, bucket)
        engines = [engine(server), engine(server, forced=Plan.RANK_THEN_FILTER), engine(server)]

        async def label(mine: list[Photo], searching: SearchEngine) -> None:
            for photo in mine:
                await server.label(bucket, photo, 1.0)
                asked = query(like(photo.vector), filters=(only(),), limit=100)
                assert (await searching.run(app, asked))[0].input_number == photo.number

        await asyncio.gather(*(label(photos[i::3], searching) for i, searching in enumerate(engines)))

    run(database_url, scenario)


# Answers without hits, and other times --------------------------------------------------------------------------------


@pytest.mark.parametrize("forced", [None, Plan.FILTER_THEN_RANK, Plan.RANK_THEN_FILTER])
@pytest.mark.parametrize("choice", CHOICES)
def test_an_empty_app_has_no_hits(choice: RankerChoice, forced: Plan | None, database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket = await server.new_bucket()
        await server.delete(bucket, *await server.add(bucket, random_unit(1)))
        for app in (scope(server, bucket), scope(server, await server.new_bucket())):
            async with choosing(server, choice) as matrices:
                searching = engine(server, matrices, forced)
                for unit in Unit:
                    for filters in ((), (only(),)):
                        terms = (like(random_unit(1)), ConceptTerm(concept=MINE, value=1.0))
                        assert await searching.run(app, query(*terms, unit=unit, filters=filters)) == []

    run(database_url, scenario)


def test_a_deleted_app_has_no_hits_by_any_plan(database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket, _ = await labelled_app(server, share=0.5, photos=10)
        app = scope(server, bucket)
        engines = [engine(server, forced=forced) for forced in (None, Plan.FILTER_THEN_RANK, Plan.RANK_THEN_FILTER)]
        asked = query(like(random_unit(1)), filters=(of_status(30000),))
        assert [len(await searching.run(app, asked)) for searching in engines] == [10, 10, 10]
        await server.database.execute("DELETE FROM app_buckets WHERE bucket = %s", [bucket])
        await server.database.execute("DELETE FROM inputs WHERE bucket = %s", [bucket])

        for searching in engines:
            assert await searching.run(app, asked) == []
        assert server.matrices.states() == []

    run(database_url, scenario)


def test_ranks_and_filters_of_another_time(database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket, photos = await labelled_app(server, share=0.0, photos=20)
        ((before,),) = await server.database.rows("SELECT clock_timestamp()")
        await server.label(bucket, photos[4], 1.0)
        app = scope(server, bucket)
        ranked = query(ConceptTerm(concept=MINE, value=1.0), limit=1)
        filtered = query(like(random_unit(1)), filters=(only(),))
        for forced in (None, Plan.FILTER_THEN_RANK, Plan.RANK_THEN_FILTER):
            searching = engine(server, forced=forced)

            assert [hit.score for hit in await searching.run(app, ranked)] == [1.0]
            assert [hit.score for hit in await searching.run(app, replace(ranked, as_of=before))] == [0.0]
            assert [hit.input_number for hit in await searching.run(app, filtered)] == [photos[4].number]
            assert await searching.run(app, replace(filtered, as_of=before)) == []

    run(database_url, scenario)


def test_a_graph_takes_no_more_memory_than_there_is(database_url: str) -> None:
    async def scenario(server: Process) -> None:
        bucket = await server.new_bucket()
        photos = await server.add(bucket, *(random_unit(seed) for seed in range(300)))
        matrix = 300 * Matrix.row_bytes(DIMS)
        kinds = []
        for room in (matrix, matrix + 310 * (Graph.row_bytes(DIMS) + 2 * DIMS)):
            async with choosing(server, "graph", memory_bytes=room) as matrices:
                searching = engine(server, matrices)
                for seed in (3, 4):
                    hits = await searching.run(scope(server, bucket), query(like(random_unit(seed))))
                    assert hits[0].input_number == photos[seed].number
                kinds.append(matrices.states()[0].ranker)
                assert matrices.states()[0].bytes <= room
                if kinds[-1] == "graph":  # until there is no room for both any more
                    photos += await server.add(bucket, *(random_unit(seed) for seed in range(300, 340)))
                    await searching.run(scope(server, bucket), query(like(random_unit(5))))
                    kinds.append(matrices.states()[0].ranker)

        assert kinds == ["exact", "graph", "exact"]

    run(database_url, scenario)
