"""What a detector found, as searches know it: kept, followed as others write, and of any version of the detector."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from tests.integration.searching import Photo, Process, process, random_unit

from sightrank.ingest.rows import AnnotationRow, insert_annotations, new_id
from sightrank.store import vectors
from sightrank.store.buckets import next_version
from sightrank.store.clock import Clock
from sightrank.store.vectors import VectorRows

CLOCK = Clock()
FACES = ("face", "visage")


def with_two(url: str, scenario: Callable[[Process, Process], Awaitable[Any]]) -> None:
    async def opened() -> None:
        async with process(url) as one, process(url) as other:
            await scenario(one, other)

    asyncio.run(opened())


async def add(
    place: Process,
    bucket: int,
    seed: int,
    value: float | None,
    *,
    detector_id: str = "faces",
    version_id: str = "f1",
    own: bool = False,
) -> Photo:
    """An input in which a detector has found a face, so surely, or nothing."""
    (photo,) = await place.add(bucket, random_unit(seed))
    await look_again(place, bucket, photo, value, detector_id=detector_id, version_id=version_id, own=own)
    return photo


async def look_again(
    place: Process,
    bucket: int,
    photo: Photo,
    value: float | None,
    *,
    detector_id: str = "faces",
    version_id: str = "f1",
    concept_id: str = "face",
    own: bool = False,
) -> None:
    """The workflow looks at an input that is there: predictions and vector are replaced in one commit."""
    async with place.database.transaction() as connection:
        keys = {"bucket": bucket, "area": photo.area_id}
        await connection.execute("DELETE FROM annotations WHERE bucket = %(bucket)s AND area_id = %(area)s", keys)
        said = [("tagger", "t1", ["thing", "face"], [0.5, 0.1])]
        if value is not None:
            said.append((detector_id, version_id, [concept_id], [value]))
        rows = [
            AnnotationRow(
                input_number=photo.number,
                id=new_id(),
                area_id=photo.area_id,
                created_at=CLOCK.take(1)[0],
                status=24150,
                trusted=False,
                model_id=model_id,
                model_version_id=version,
                own_model=own and model_id == detector_id,
                concept_ids=concept_ids,
                concept_values=values,
            )
            for model_id, version, concept_ids, values in said
        ]
        await insert_annotations(connection, bucket, rows)
        version = await next_version(connection, bucket, labels=False)
        await vectors.delete(connection, place.table, bucket, np.array([photo.area_id]))
        again = VectorRows(
            area_ids=np.array([photo.area_id]),
            input_numbers=np.array([photo.number]),
            created_us=np.array([photo.number]),
            vectors=photo.vector[None],
        )
        await vectors.insert(connection, place.table, bucket, version, again)


async def found(place: Process, bucket: int, detector_id: str = "faces") -> dict[int, float]:
    """Area to how surely a face was found in it."""
    versions = await place.matrices.versions(bucket)
    labels = await place.matrices.detections.found(place.table, bucket, FACES, detector_id, versions)
    pairs = zip(labels.area_ids.tolist(), labels.values.tolist(), strict=True)
    return {area_id: round(value, 4) for area_id, value in pairs}


def test_what_another_process_commits_is_known_to_the_next_search(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        assert await found(other, bucket) == {}
        first = await add(one, bucket, 1, 0.9)
        await add(one, bucket, 2, None)
        assert await found(other, bucket) == {first.area_id: 0.9}
        second = await add(one, bucket, 3, 0.7)

        assert await found(other, bucket) == {first.area_id: 0.9, second.area_id: 0.7}

    with_two(database_url, scenario)


def test_an_input_that_is_looked_at_again_says_only_what_is_found_now(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = [await add(one, bucket, seed, 0.9) for seed in range(4)]
        await found(other, bucket)

        await look_again(one, bucket, photos[0], 0.6)
        await look_again(one, bucket, photos[1], None)
        await look_again(one, bucket, photos[2], 0.5, concept_id="visage")

        expected = {photos[0].area_id: 0.6, photos[2].area_id: 0.5, photos[3].area_id: 0.9}
        assert await found(other, bucket) == await found(one, bucket) == expected

    with_two(database_url, scenario)


def test_what_people_do_to_a_detection_is_known_too(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        photos = [await add(one, bucket, seed, 0.9) for seed in range(2)]
        await found(other, bucket)

        async with one.database.transaction() as connection:
            await connection.execute(
                "DELETE FROM annotations WHERE bucket = %s AND area_id = %s", [bucket, photos[0].area_id]
            )
            await next_version(connection, bucket, labels=True)

        assert await found(other, bucket) == {photos[1].area_id: 0.9}

    with_two(database_url, scenario)


def test_a_commit_makes_only_its_own_areas_read(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        first = await add(one, bucket, 1, 0.9)
        await found(other, bucket)
        # Not as any writer would: what is read again shows it.
        await one.database.execute("UPDATE annotations SET concept_values = '{0.1}' WHERE model_id = 'faces'")
        second = await add(one, bucket, 2, 0.8)

        assert await found(other, bucket) == {first.area_id: 0.9, second.area_id: 0.8}

    with_two(database_url, scenario)


def test_detectors_are_kept_apart_and_versions_of_one_are_not(database_url: str) -> None:
    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        old = await add(one, bucket, 1, 0.9, version_id="f0")
        new = await add(one, bucket, 2, 0.8)
        theirs = await add(one, bucket, 3, 0.7, detector_id="others", version_id="o1")

        assert await found(one, bucket) == {old.area_id: 0.9, new.area_id: 0.8}
        assert await found(one, bucket, "others") == {theirs.area_id: 0.7}
        late = await add(one, bucket, 4, 0.6, version_id="f0")
        assert await found(one, bucket) == {old.area_id: 0.9, new.area_id: 0.8, late.area_id: 0.6}
        assert await found(other, bucket) == await found(one, bucket)

    with_two(database_url, scenario)


def test_what_a_model_of_the_app_says_is_no_detection_whatever_it_is_called(database_url: str) -> None:
    """Nor when its version is gone, or goes by the very id of the detector's."""

    async def scenario(one: Process, other: Process) -> None:
        bucket = await one.new_bucket()
        await add(one, bucket, 1, 0.9, version_id="deleted", own=True)
        await add(one, bucket, 5, 0.9, version_id="f1", own=True)
        detected = await add(one, bucket, 2, 0.8)

        assert await found(one, bucket) == {detected.area_id: 0.8}
        await add(one, bucket, 3, 0.7, version_id="deleted", own=True)
        await add(one, bucket, 6, 0.7, version_id="f1", own=True)
        late = await add(one, bucket, 4, 0.6)
        assert await found(one, bucket) == await found(other, bucket) == {detected.area_id: 0.8, late.area_id: 0.6}

    with_two(database_url, scenario)
