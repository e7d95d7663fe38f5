"""The labelled areas that nearest neighbours are found among: when they are read anew, and when they are not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.integration.labels import region_of, say, with_app
from tests.integration.searching import Photo, Process, random_unit

from sightrank.search.concepts import ConceptBook
from sightrank.store import vectors
from sightrank.store.buckets import next_version
from sightrank.store.vectors import VectorRows
from sightrank.teach import neighbours as neighbours_module
from sightrank.teach.neighbours import Neighbours
from sightrank.vision.operators import Labelled
from sightrank.vision.vocabulary import Vocabulary

BOOK = ConceptBook(Vocabulary.empty())


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often labelled areas were read."""
    times = []
    read = neighbours_module.read_labelled

    async def counted(*args: Any) -> Labelled:
        times.append(args)
        return await read(*args)

    monkeypatch.setattr(neighbours_module, "read_labelled", counted)
    return lambda: len(times)


def has(labelled: Labelled) -> list[list[str]]:
    """The concepts of each area."""
    starts = labelled.starts.tolist()
    return [
        sorted(labelled.concept_ids[column] for column in labelled.columns[start:end])
        for start, end in itertools.pairwise(starts)
    ]


async def embed_anew(place: Process, bucket: int, photo: Photo, seed: int) -> None:
    """As an input that is looked at again."""
    area_ids = np.array([photo.area_id])
    async with place.database.transaction() as connection:
        version = await next_version(connection, bucket, labels=False)
        await vectors.delete(connection, place.table, bucket, area_ids)
        rows = VectorRows(
            area_ids=area_ids,
            input_numbers=np.array([photo.number]),
            created_us=np.array([photo.number]),
            vectors=random_unit(seed).astype(np.float16)[None],
        )
        await vectors.insert(connection, place.table, bucket, version, rows)


def test_inputs_that_come_in_without_labels_change_nothing(database_url: str, count: Callable[[], int]) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        cat, dog = await place.add(bucket, random_unit(1), random_unit(2))
        await say(place, bucket, cat, {"cat": 1.0, "dog": 0.0})
        await say(place, bucket, dog, {"dog": 1.0, "other": 1.0})
        known = Neighbours(place.database, BOOK)

        first = await known.labelled(bucket, place.table, ("cat", "dog"))
        for seed in range(10, 15):
            await place.add(bucket, random_unit(seed))
            assert await known.labelled(bucket, place.table, ("cat", "dog")) is first

        assert count() == 1
        assert has(first) == [["cat"], ["dog"]]
        assert np.array_equal(first.vectors, np.stack([cat.vector, dog.vector]).astype(np.float32))
        assert has(await known.labelled(bucket, place.table, ())) == [["cat"], ["dog", "other"]]
        assert has(await known.labelled(bucket, place.table, ("bird",))) == []

    with_app(database_url, scenario)


def test_what_changes_labelled_areas_is_read(database_url: str, count: Callable[[], int]) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        cat, dog, late = await place.add(bucket, random_unit(1), random_unit(2), random_unit(3))
        await say(place, bucket, cat, {"cat": 1.0})
        known = Neighbours(place.database, BOOK)

        async def now() -> list[list[str]]:
            return has(await known.labelled(bucket, place.table, ()))

        assert await now() == [["cat"]]
        await say(place, bucket, dog, {"dog": 1.0})
        assert await now() == [["cat"], ["dog"]]
        # Labelled before it is indexed.
        await place.database.execute("UPDATE inputs SET status = 30001 WHERE number = %s", [late.number])
        await say(place, bucket, late, {"bird": 1.0})
        assert await now() == [["cat"], ["dog"]]
        await place.database.execute("UPDATE inputs SET status = 30000 WHERE number = %s", [late.number])
        await embed_anew(place, bucket, late, 33)
        assert await now() == [["cat"], ["dog"], ["bird"]]
        # Looked at again, without a change of labels.
        await embed_anew(place, bucket, cat, 11)
        labelled = await known.labelled(bucket, place.table, ())
        assert np.array_equal(labelled.vectors[0], random_unit(11).astype(np.float16).astype(np.float32))
        region = await region_of(place, bucket, dog, 4)
        await say(place, bucket, region, {"cat": 1.0})
        assert await now() == [["cat"], ["dog"], ["bird"], ["cat"]]
        await place.delete(bucket, dog)
        assert await now() == [["cat"], ["bird"]]
        assert count() == 7

    with_app(database_url, scenario)


def test_an_app_far_behind_is_read_anew(
    database_url: str, count: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        (cat,) = await place.add(bucket, random_unit(1))
        await say(place, bucket, cat, {"cat": 1.0})
        known = Neighbours(place.database, BOOK)
        await known.labelled(bucket, place.table, ())
        monkeypatch.setattr(neighbours_module, "_FOLLOWED", 1)

        await place.add(bucket, random_unit(2))
        await known.labelled(bucket, place.table, ())
        assert count() == 1
        await place.add(bucket, random_unit(3))
        await place.add(bucket, random_unit(4))
        await known.labelled(bucket, place.table, ())
        assert count() == 2

    with_app(database_url, scenario)
