"""Two server processes on one database, here two pools with an engine each: what one has committed, the other's very
next search sees, and memory never changes an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.integration.searching import DIMS, Photo, Process, like, process, random_unit
from tests.integration.serving import by_image, connected, home, new_app, of_bytes, picture, server_at

from sightrank.ingest.removal import Removal
from sightrank.search.matrix import Matrix
from sightrank.search.query import ConceptName, ConceptTerm
from sightrank.store import vectors
from sightrank.store.blobs import BlobStore
from sightrank.store.database import Connection
from sightrank.store.vectors import EmbedderTable, VectorRows

MINE = ConceptTerm(concept=ConceptName(id="mine"), value=1.0)


def with_two(url: str, scenario: Callable[[Process, Process], Awaitable[Any]]) -> Any:
    async def opened() -> Any:
        async with process(url) as one, process(url) as other:
            return await scenario(one, other)

    return asyncio.run(opened())


# What another process did ---------------------------------------------------------------------------------------------


def test_new_inputs_are_found_by_the_next_search_of_the_other_process(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        assert await other.numbers(bucket, like(random_unit(0))) == []
        photos: list[Photo] = []
        for seed in range(5):
            photos += await one.add(bucket, random_unit(seed), random_unit(seed + 100))

            found = await other.numbers(bucket, like(random_unit(seed)))

            assert found[0] == photos[-2].number
            assert sorted(found) == [photo.number for photo in photos]

    with_two(database_url, scenario)


def test_deleted_inputs_are_gone_from_the_next_search_of_the_other_process(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *(random_unit(seed) for seed in range(6)))
        assert len(await other.numbers(bucket, like(random_unit(2)))) == 6

        await one.delete(bucket, photos[2], photos[5])
        remaining = await other.numbers(bucket, like(random_unit(2)))
        await one.delete(bucket, *photos[:2], *photos[3:5])

        assert sorted(remaining) == [photos[i].number for i in (0, 1, 3, 4)]
        assert await other.numbers(bucket, like(random_unit(2))) == []

    with_two(database_url, scenario)


def test_what_came_and_went_between_two_searches_leaves_nothing(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        (kept,) = await one.add(bucket, random_unit(1))
        await other.numbers(bucket, like(random_unit(1)))
        await one.delete(bucket, *await one.add(bucket, random_unit(2), random_unit(3)))
        (late,) = await one.add(bucket, random_unit(4))

        assert await other.numbers(bucket, like(random_unit(4))) == [late.number, kept.number]

    with_two(database_url, scenario)


def test_a_process_that_stays_behind_longer_than_removals_are_kept_loads_anew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "VERSIONS_KEPT", 3)

    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *(random_unit(seed) for seed in range(8)))
        assert len(await other.numbers(bucket, like(random_unit(2)))) == 8
        removal = Removal(one.database, cast(BlobStore, None))
        ids = dict(await one.database.rows("SELECT number, id FROM inputs"))

        for photo in photos[:6]:
            await removal.delete_inputs(bucket, [ids[photo.number]])

        ((kept,),) = await one.database.rows("SELECT count(*) FROM removals")
        assert kept == 3
        for reader in (one, other):
            assert sorted(await reader.numbers(bucket, like(random_unit(2)))) == [p.number for p in photos[6:]]

    with_two(database_url, scenario)


def test_a_label_counts_in_the_next_search_of_the_other_process(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, random_unit(1), random_unit(2), random_unit(3))
        assert [hit.score for hit in await other.hits(bucket, MINE)] == [0.0, 0.0, 0.0]

        await one.label(bucket, photos[1], 1.0)
        labelled = await other.hits(bucket, MINE)
        await one.label(bucket, photos[1], 0.0)
        withdrawn = await other.hits(bucket, MINE)

        assert (labelled[0].input_number, labelled[0].score) == (photos[1].number, 1.0)
        # The others are as likely as they are like the only positive.
        cosine = float(photos[1].vector.astype(float) @ photos[0].vector.astype(float))
        scores = {hit.input_number: hit.score for hit in labelled}
        assert scores[photos[0].number] == pytest.approx((1 + cosine) / 2, abs=1e-3)
        assert [hit.score for hit in withdrawn] == [0.0, 0.0, 0.0]

    with_two(database_url, scenario)


def test_apps_do_not_see_each_other(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        first, second = await one.new_bucket(), await one.new_bucket()
        mine = await one.add(first, random_unit(1))
        theirs = await one.add(second, random_unit(1), random_unit(2))

        assert await other.numbers(first, like(random_unit(1))) == [mine[0].number]
        assert await other.numbers(second, like(random_unit(2))) == [theirs[1].number, theirs[0].number]

    with_two(database_url, scenario)


def test_writers_and_searchers_at_once(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        alive: set[int] = set()

        async def write(writer: Process, reader: Process, seed: int) -> None:
            for turn in range(8):
                photos = await writer.add(bucket, random_unit(seed * 100 + turn), random_unit(seed * 100 + turn + 50))
                found = await reader.numbers(bucket, like(photos[0].vector))
                assert found[0] == photos[0].number
                assert photos[1].number in found
                assert len(set(found)) == len(found)
                await writer.delete(bucket, photos[1])
                assert photos[1].number not in await reader.numbers(bucket, like(photos[1].vector))
                alive.add(photos[0].number)

        await asyncio.gather(
            *(write(*pair, seed) for seed, pair in enumerate([(one, other), (other, one), (one, one), (other, other)]))
        )

        for reader in (one, other):
            assert set(await reader.numbers(bucket, like(random_unit(0)))) == alive
        assert len(alive) == 32

    with_two(database_url, scenario)


# Memory, failures, ends -----------------------------------------------------------------------------------------------


def test_apps_beyond_the_memory_are_dropped_and_loaded_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    original = vectors.changed_since

    def counting(connection: Connection, table: EmbedderTable, bucket: int, version: int) -> Any:
        loaded.append(bucket)
        return original(connection, table, bucket, version)

    monkeypatch.setattr(vectors, "changed_since", counting)

    async def scenario() -> None:
        one_matrix = 10 * Matrix.row_bytes(DIMS)
        async with process(database_url, memory_bytes=2 * one_matrix) as server:
            buckets = [await server.new_bucket() for _ in range(3)]
            photos = {bucket: await server.add(bucket, *map(random_unit, range(10))) for bucket in buckets}
            a, b, c = buckets
            for bucket in (a, b, a, b, a, c, a, c, b):
                found = await server.numbers(bucket, like(random_unit(7)))

                assert found[0] == photos[bucket][7].number
                assert len(found) == 10
            # a stays all the time, because it was used last whenever one had to go.
            assert loaded == [a, b, c, b]

    asyncio.run(scenario())


def test_a_load_that_fails_half_way_is_made_good_by_the_next_search(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_CHUNK_BYTES", 200)
    original = vectors.changed_since

    async def failing(*arguments: Any) -> AsyncIterator[VectorRows]:
        async for part in original(*arguments):
            yield part
            raise ConnectionResetError

    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(20)))
        await other.numbers(bucket, like(random_unit(1)))
        await one.delete(bucket, photos[0])
        photos += await one.add(bucket, *map(random_unit, range(20, 40)))
        for _ in range(12):  # more often than there are connections: none may be lost
            with monkeypatch.context() as patch:
                patch.setattr(vectors, "changed_since", failing)
                with pytest.raises(ConnectionResetError):
                    await other.numbers(bucket, like(random_unit(1)))

        found = await other.numbers(bucket, like(random_unit(33)))

        assert found[0] == photos[33].number
        assert sorted(found) == [photo.number for photo in photos[1:]]

    with_two(database_url, scenario)


def test_a_search_that_is_given_up_while_loading_harms_no_other(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_CHUNK_BYTES", 200)
    original = vectors.changed_since
    loading, released = asyncio.Event(), asyncio.Event()
    loads: list[int] = []

    async def slow(*arguments: Any) -> AsyncIterator[VectorRows]:
        loads.append(1)
        async for part in original(*arguments):
            yield part
            loading.set()
            await released.wait()

    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(30)))
        monkeypatch.setattr(vectors, "changed_since", slow)
        given_up = asyncio.create_task(other.numbers(bucket, like(random_unit(1))))
        await asyncio.wait_for(loading.wait(), 60)
        patient = asyncio.create_task(other.numbers(bucket, like(random_unit(5))))
        await asyncio.wait_for(_waiting(other, 2), 60)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        released.set()
        found = await asyncio.wait_for(patient, 60)

        assert (found[0], len(found)) == (photos[5].number, 30)
        assert loads == [1]

    with_two(database_url, scenario)


def test_a_load_that_nobody_waits_for_any_more_ends_and_the_next_search_loads_anew(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "_CHUNK_BYTES", 200)
    original = vectors.changed_since
    loading, ended = asyncio.Event(), asyncio.Event()

    async def stuck(*arguments: Any) -> AsyncIterator[VectorRows]:
        async for part in original(*arguments):
            yield part
            loading.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = await one.add(bucket, *map(random_unit, range(30)))
        with monkeypatch.context() as patch:
            patch.setattr(vectors, "changed_since", stuck)
            given_up = asyncio.create_task(other.numbers(bucket, like(random_unit(1))))
            await asyncio.wait_for(loading.wait(), 60)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            await asyncio.wait_for(ended.wait(), 60)
        found = await asyncio.wait_for(other.numbers(bucket, like(random_unit(5))), 60)

        assert (found[0], len(found)) == (photos[5].number, 30)

    with_two(database_url, scenario)


async def _waiting(server: Process, count: int) -> None:
    """Returns when so many searches wait for one load."""
    while True:
        loadings = [followed._loading for followed in server.matrices._followed.values()]
        if any(loading is not None and loading.waiting == count for loading in loadings):
            return
        await asyncio.sleep(0.001)


def test_a_deleted_app_has_no_hits_and_takes_no_memory(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        await one.add(bucket, random_unit(1))
        assert len(await other.numbers(bucket, like(random_unit(1)))) == 1
        await one.database.execute("DELETE FROM app_buckets WHERE bucket = %s", [bucket])
        await one.database.execute("DELETE FROM inputs WHERE bucket = %s", [bucket])

        for server in (one, other):
            assert await server.numbers(bucket, like(random_unit(1))) == []
            assert not server.matrices._followed

    with_two(database_url, scenario)


# A whole server ------------------------------------------------------------------------------------------------------


def test_after_a_kill_the_matrix_is_loaded_anew_and_ranks_as_before() -> None:
    with home() as folder, server_at(folder) as server:
        server.start()
        with connected(server) as stub:
            app = new_app(server, stub)
            ids = app.indexed(*(of_bytes(picture(place)) for place in range(4)))
            ranks = [by_image(picture(place)) for place in range(4)]
            before = [[(hit.input.id, hit.score) for hit in app.rank(rank)] for rank in ranks]
        server.kill()
        server.start()
        with connected(server) as stub:
            app = replace(app, stub=stub)
            after = [[(hit.input.id, hit.score) for hit in app.rank(rank)] for rank in ranks]
            (late,) = app.indexed(of_bytes(picture(9)))
            newest = app.rank(by_image(picture(9)))[0].input.id

        assert [hits[0][0] for hits in before] == ids
        assert after == before
        assert newest == late
