"""Labels as examples to learn from: what counts as having a concept, as not having it, and what is left open."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.integration.labels import frame_of, region_of, say, with_app
from tests.integration.searching import DIMS, Process, random_unit

from sightrank.search.concepts import ConceptBook
from sightrank.store import vectors
from sightrank.teach.examples import Source, frozen, read_examples, thawed
from sightrank.vision.fitting import Examples
from sightrank.vision.vocabulary import Term, Vocabulary

BOOK = ConceptBook(Vocabulary([Term("ai_cat", {"en": "cat"}, (), "")]))
NOTHING_SAID = None


async def read(place: Process, bucket: int, *concepts: str, **options: Any) -> Examples:
    return await read_examples(place.database, BOOK, bucket, place.table, concepts, **options)


def by_area(examples: Examples) -> dict[int, list[float | None]]:
    return {
        int(area): [NOTHING_SAID if np.isnan(value) else float(value) for value in row]
        for area, row in zip(examples.area_ids, examples.labels, strict=True)
    }


def test_a_label_of_one_concept_speaks_of_the_others(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        cat, both, no_dog, other, silent = await place.add(bucket, *map(random_unit, range(5)))
        await say(place, bucket, cat, {"cat": 1.0})
        await say(place, bucket, both, {"cat": 1.0, "dog": 0.5})
        await say(place, bucket, no_dog, {"dog": 0.0})
        await say(place, bucket, other, {"other": 1.0})

        examples = await read(place, bucket, "cat", "dog", "bird")

        assert by_area(examples) == {cat.area_id: [1, 0, 0], both.area_id: [1, 1, 0], no_dog.area_id: [0, 0, 0]}
        assert examples.concept_ids == ("cat", "dog", "bird")
        of_cat = examples.vectors[examples.area_ids.tolist().index(cat.area_id)]
        assert np.array_equal(of_cat, cat.vector.astype(np.float32))
        unlabelled = {tuple(vector) for vector in examples.background.tolist()}
        assert unlabelled == {tuple(photo.vector.astype(np.float32).tolist()) for photo in (other, silent)}

    with_app(database_url, scenario)


def test_the_latest_trusted_label_counts(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        first, second = await place.add(bucket, random_unit(1), random_unit(2))
        await say(place, bucket, first, {"cat": 1.0})
        await say(place, bucket, first, {"cat": 0.0})
        await say(place, bucket, second, {"cat": 0.0})
        await say(place, bucket, second, {"cat": 1.0})
        await say(place, bucket, second, {"cat": 0.0}, trusted=False)

        assert by_area(await read(place, bucket, "cat")) == {first.area_id: [0], second.area_id: [1]}

    with_app(database_url, scenario)


@pytest.mark.parametrize("part_of", [region_of, frame_of])
def test_what_is_in_a_part_is_not_denied_of_the_whole(database_url: str, part_of: Any) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        (whole,) = await place.add(bucket, random_unit(1))
        dog, bird = [await part_of(place, bucket, whole, seed) for seed in (2, 3)]
        await say(place, bucket, whole, {"cat": 1.0})
        await say(place, bucket, dog, {"dog": 1.0})
        await say(place, bucket, bird, {"bird": 1.0, "cat": 0.0})

        assert by_area(await read(place, bucket, "cat", "dog", "bird")) == {
            whole.area_id: [1, NOTHING_SAID, NOTHING_SAID],
            dog.area_id: [NOTHING_SAID, 1, 0],
            bird.area_id: [0, 0, 1],
        }

    with_app(database_url, scenario)


def test_only_indexed_inputs_and_those_of_the_dataset_teach(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        inside, outside, waiting = await place.add(bucket, *map(random_unit, range(3)))
        for photo in (inside, outside, waiting):
            await say(place, bucket, photo, {"cat": 1.0})
        keys = [bucket, waiting.number]
        await place.database.execute("UPDATE inputs SET status = 30001 WHERE bucket = %s AND number = %s", keys)
        await place.database.execute("INSERT INTO datasets (bucket, id) VALUES (%s, 'set')", [bucket])
        await place.database.execute(
            "INSERT INTO dataset_inputs (bucket, dataset_id, input_number, created_at) VALUES (%s, 'set', %s, now())",
            [bucket, inside.number],
        )

        assert set(by_area(await read(place, bucket, "cat"))) == {inside.area_id, outside.area_id}
        assert set(by_area(await read(place, bucket, "cat", source=Source("set")))) == {inside.area_id}
        assert not len((await read(place, bucket, "cat", source=Source("no such set"))).area_ids)

    with_app(database_url, scenario)


def test_a_public_concept_and_the_own_one_of_its_name_are_one(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        own, public = await place.add(bucket, random_unit(1), random_unit(2))
        await place.database.execute(
            "INSERT INTO concepts (bucket, id, name, name_folded) VALUES (%s, 'ai_cat', 'cat', 'cat')", [bucket]
        )
        await say(place, bucket, own, {"cat": 1.0})
        await say(place, bucket, public, {"ai_cat": 1.0})

        for concept_id in ("cat", "ai_cat"):
            examples = await read(place, bucket, concept_id, "dog")
            assert by_area(examples) == {own.area_id: [1, 0], public.area_id: [1, 0]}
            assert examples.concept_ids == (concept_id, "dog")

    with_app(database_url, scenario)


def test_what_was_frozen_comes_back_without_what_is_gone(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        kept, gone, _ = await place.add(bucket, *map(random_unit, range(3)))
        await say(place, bucket, kept, {"cat": 1.0})
        await say(place, bucket, gone, {"dog": 1.0})
        before = await read(place, bucket, "cat", "dog")
        data = frozen(before)
        await say(place, bucket, kept, {"cat": 0.0})
        await place.delete(bucket, gone)

        after = await thawed(place.database, bucket, place.table, data)

        assert by_area(after) == {kept.area_id: [1, 0]}
        assert after.vectors.shape == (1, DIMS)
        assert len(after.background) == 1
        assert len(before.background) == 1
        other = await vectors.register(place.database, "model", "v2", DIMS)
        assert not len((await thawed(place.database, bucket, other, data)).area_ids)

    with_app(database_url, scenario)


def test_the_background_is_bounded_and_the_same_each_time(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        await place.add(bucket, *map(random_unit, range(40)))

        some = await read(place, bucket, "cat", background=10)
        again = await read(place, bucket, "cat", background=10)

        assert some.background.shape == (10, DIMS)
        assert np.array_equal(some.background, again.background)

    with_app(database_url, scenario)


def test_the_background_is_from_all_over_an_app_whose_areas_lie_in_heaps(database_url: str) -> None:
    async def scenario(place: Process, bucket: int) -> None:
        early = await place.add(bucket, *map(random_unit, range(300)))
        await place.database.execute("SELECT setval(pg_get_serial_sequence('areas', 'id'), 50000000)")
        late = await place.add(bucket, *map(random_unit, range(300, 600)))
        for photo in early[:30]:
            await say(place, bucket, photo, {"cat": 1.0})

        examples = await read(place, bucket, "cat", background=100)

        number = {tuple(one.vector.astype(np.float32).tolist()): place for place, one in enumerate([*early, *late])}
        found = sorted(number[tuple(vector)] for vector in examples.background.tolist())
        assert len(set(found)) == 100
        assert found[0] >= 30
        tenths = np.histogram(found, bins=6, range=(0, 600))[0]
        assert tenths.min() >= 8, tenths

    with_app(database_url, scenario)
