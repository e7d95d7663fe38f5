"""Hits as they are read: which annotation speaks for an area, now and as of a time, in one snapshot with versions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from clarifai_grpc.grpc.api.resources_pb2 import Hit as HitMessage

from sightrank.api.call import AppRef
from sightrank.api.hits import HitPage, Hits
from sightrank.api.records import Records
from sightrank.ingest.media import HostedUrls
from sightrank.search.concepts import ConceptBook
from sightrank.search.engine import Hit
from sightrank.search.versions import NO_VERSIONS, Versions
from sightrank.store.database import Database, number_array
from sightrank.vision.vocabulary import Vocabulary

START = datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
EVER = START + timedelta(days=3650)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


@dataclass(frozen=True)
class Place:
    """One app of an otherwise empty database; ids of inputs are ``in-<number>``."""

    database: Database
    bucket: int

    @property
    def app(self) -> AppRef:
        return AppRef(user_id="ann", app_id="photos", bucket=self.bucket, workflow_id="General")

    async def input(self, number: int, **columns: Any) -> int:
        """An indexed image with its whole area, whose id is the input's number; returns that."""
        row = {"bucket": self.bucket, "number": number, "id": f"in-{number}", "created_at": START, "modified_at": at(1)}
        await self._insert("inputs", row | {"status": 30000, "media": "image", "blob": "b"} | columns)
        await self.area(number, number)
        return number

    async def area(self, area_id: int, number: int, region_id: str | None = None, *box: float) -> int:
        sides = dict(zip(("box_top", "box_left", "box_bottom", "box_right"), box, strict=False))
        row = {"bucket": self.bucket, "id": area_id, "input_number": number, "created_at": START}
        await self._insert("areas", row | {"region_id": region_id} | sides)
        return area_id

    async def annotation(self, number: int, name: str, area_id: int, **columns: Any) -> None:
        await self._insert("annotations", self._version(number, name, area_id) | columns)

    async def past(self, number: int, name: str, area_id: int, until: datetime, **columns: Any) -> None:
        """What that annotation said until then."""
        row = self._version(number, name, area_id) | {
            "input_level": False,
            "model_id": "",
            "task_id": "",
            "until": until,
        }
        await self._insert("past_annotations", row | columns)

    async def read(self, *hits: Hit, as_of: datetime | None = None) -> HitPage:
        records = Records(self.database, ConceptBook(Vocabulary.empty()), HostedUrls("http://here:8000"))
        return await Hits(self.database, records).read(self.app, hits, as_of)

    async def messages(self, *hits: Hit, as_of: datetime | None = None) -> list[HitMessage]:
        return (await self.read(*hits, as_of=as_of)).messages

    def _version(self, number: int, name: str, area_id: int) -> dict[str, Any]:
        row = {"bucket": self.bucket, "input_number": number, "id": name, "area_id": area_id, "created_at": at(2)}
        row |= {"modified_at": at(2), "status": 24150, "trusted": True, "user_id": "ann", "model_version_id": ""}
        return row | {"concept_ids": [], "concept_values": []}

    async def _insert(self, table: str, row: dict[str, Any]) -> None:
        values = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()}
        marks = ", ".join(f"%({name})s" for name in values)
        await self.database.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", values)


def in_app(url: str, scenario: Callable[[Place], Awaitable[None]]) -> None:
    async def opened() -> None:
        database = Database(url)
        await database.open()
        try:
            row = await database.row("INSERT INTO app_buckets (version, labels_version) VALUES (7, 5) RETURNING bucket")
            assert row is not None
            await scenario(Place(database, row[0]))
        finally:
            await database.close()

    asyncio.run(opened())


def area_hit(area_id: int, *, number: int | None = None, score: float = 0.5) -> Hit:
    return Hit(score=score, input_number=number or area_id, area_id=area_id, annotation_id=None)


def named(number: int, name: str, area_id: int | None = None) -> Hit:
    return Hit(score=1.0, input_number=number, area_id=area_id, annotation_id=name)


def words(hit: HitMessage) -> list[str]:
    """Concepts of the annotation, on its region or on the whole image."""
    data = hit.annotation.data
    return [concept.id for concept in (data.regions[0].data.concepts if data.regions else data.concepts)]


def test_numbers_become_an_array_that_postgresql_reads(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        rows = await place.database.rows("SELECT %s::bigint[]", [number_array([1, None, -(2**60)])])

        assert rows == [([1, None, -(2**60)],)]
        assert await place.database.rows("SELECT %s::bigint[]", [number_array([])]) == [([],)]

    in_app(database_url, scenario)


def test_binary_rows_say_the_same_as_those_in_text(database_url: str) -> None:
    statement = (
        "SELECT %s::timestamptz, ARRAY['a', NULL], ARRAY[0.5::real], '{\"a\": [1, null]}'::jsonb, NULL::text, 7, true"
    )

    async def scenario(place: Place) -> None:
        binary = await place.database.rows(statement, [START], binary=True)

        assert binary == await place.database.rows(statement, [START])
        assert binary == [(START, ["a", None], [0.5], {"a": [1, None]}, None, 7, True)]

    in_app(database_url, scenario)


def test_a_hit_says_all_that_is_stored_of_its_input_and_annotation(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        number = await place.input(1, id="a b/c", width=640, height=480, format="JPEG", color_mode="RGB")
        said = {"concept_ids": ["dog"], "concept_values": [1.0], "metadata": {"n": {"deep": [1, "x"]}}}
        await place.annotation(
            number, "own", number, input_level=True, latitude=1.5, longitude=-2.5, modified_at=at(9), **said
        )

        (hit,) = await place.messages(area_hit(number, score=0.25))

        assert (hit.score, hit.user_id, hit.app_id) == (0.25, "ann", "photos")
        image = hit.input.data.image
        assert image.url == "http://here:8000/media/orig/ann/photos/a%20b%2Fc"
        assert (image.hosted.prefix, image.hosted.suffix) == ("http://here:8000/media", "ann/photos/a%20b%2Fc")
        assert list(image.hosted.sizes) == ["orig", "large", "small", "tiny"]
        assert image.hosted.crossorigin == "use-credentials"
        info = image.image_info
        assert (info.width, info.height, info.format, info.color_mode) == (640, 480, "JPEG", "RGB")
        assert (hit.input.id, hit.input.status.code, hit.input.status.description) == (
            "a b/c",
            30000,
            "Download complete",
        )
        assert hit.input.created_at.ToDatetime(UTC) == START
        assert hit.input.modified_at.ToDatetime(UTC) == at(1)
        assert (hit.annotation.id, hit.annotation.input_id) == ("own", "a b/c")
        assert (hit.annotation.trusted, hit.annotation.input_level, hit.annotation.worker.user.id) == (
            True,
            True,
            "ann",
        )
        assert hit.annotation.modified_at.ToDatetime(UTC) == at(9)
        for data in (hit.input.data, hit.annotation.data):  # what an input-level annotation says is the input's content
            assert [(concept.id, concept.value) for concept in data.concepts] == [("dog", 1.0)]
            assert data.metadata["n"]["deep"][1] == "x"
            assert (data.geo.geo_point.latitude, data.geo.geo_point.longitude) == (1.5, -2.5)

    in_app(database_url, scenario)


def test_the_first_annotation_of_a_person_speaks_for_an_area(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        number = await place.input(1)
        region = await place.area(11, number, "r", 0.1, 0.2, 0.3, 0.4)
        await place.annotation(
            number, "own", number, input_level=True, created_at=at(5), concept_ids=["in"], concept_values=[1]
        )
        await place.annotation(number, "model", region, created_at=at(1), model_version_id="v1", user_id="")
        await place.annotation(number, "later", region, created_at=at(4))
        await place.annotation(number, "early", region, created_at=at(3), concept_ids=["mine"], concept_values=[1])
        lonely = await place.input(2)
        await place.annotation(
            lonely, "p", lonely, model_version_id="v1", user_id="", concept_ids=["x"], concept_values=[1]
        )

        whole, part, predicted = await place.messages(
            area_hit(number), area_hit(region, number=number), area_hit(lonely)
        )

        assert (whole.annotation.id, part.annotation.id, predicted.annotation.id) == ("own", "early", "p")
        assert predicted.annotation.worker.model.model_version.id == "v1"
        box = part.annotation.data.regions[0].region_info.bounding_box
        assert [round(side, 6) for side in (box.top_row, box.left_col, box.bottom_row, box.right_col)] == [
            0.1,
            0.2,
            0.3,
            0.4,
        ]
        assert words(part) == ["mine"]
        # The hit's input says what its own input-level annotation says, whichever annotation the hit is about.
        assert [concept.id for concept in part.input.data.concepts] == ["in"]
        assert list(predicted.input.data.concepts) == []

    in_app(database_url, scenario)


def test_a_named_annotation_is_the_one_that_is_shown(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        number = await place.input(1)
        await place.annotation(number, "own", number, input_level=True)
        await place.annotation(number, "other", number, created_at=at(6))

        both = await place.messages(named(number, "other"), named(number, "other", number), named(number, "gone"))
        mixed = await place.messages(named(number, "other"), area_hit(number))
        neither = await place.messages(Hit(score=1.0, input_number=number, area_id=None, annotation_id=None))

        assert [hit.annotation.id for hit in both] == ["other", "other"]
        assert [hit.annotation.id for hit in mixed] == ["other", "own"]
        assert [hit.annotation.id for hit in neither] == ["own"]

    in_app(database_url, scenario)


def test_hits_keep_their_order_and_those_that_are_gone_are_left_out(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        order = [5, 3, 4, 1, 2]
        for number in order:
            await place.input(number)
            await place.annotation(number, "own", number, input_level=True)
        hits = [area_hit(number, score=1 - place / 10) for place, number in enumerate([5, 99, 3, 4, 1, 2])]

        page = await place.read(*hits)
        gone = await place.read(area_hit(99))
        nothing = await place.read()

        assert [hit.input.id for hit in page.messages] == [f"in-{number}" for number in order]
        assert [round(hit.score, 6) for hit in page.messages] == [1.0, 0.8, 0.7, 0.6, 0.5]
        assert page.versions == gone.versions == nothing.versions == Versions(all=7, labels=5)
        assert gone.messages == nothing.messages == []

    in_app(database_url, scenario)


def test_of_an_app_that_is_gone_there_are_no_versions(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        await place.database.execute("DELETE FROM app_buckets")

        for as_of in (None, START):
            page = await place.read(area_hit(1), as_of=as_of)
            assert (page.versions, page.messages) == (NO_VERSIONS, [])

    in_app(database_url, scenario)


def test_hits_of_another_app_with_the_same_numbers_stay_apart(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        other = Place(place.database, place.bucket + 1000)
        for app, word in ((place, "ours"), (other, "theirs")):
            await app.input(1, id=word)
            await app.annotation(1, "own", 1, input_level=True, concept_ids=[word], concept_values=[1])
            await app.past(1, "own", 1, at(2), modified_at=at(1), concept_ids=[f"{word} before"], concept_values=[1])

        (now,) = await place.messages(area_hit(1))
        (then,) = await place.messages(area_hit(1), as_of=at(1.5))

        assert (now.input.id, words(now), words(then)) == ("ours", ["ours"], ["ours before"])

    in_app(database_url, scenario)


# As of a time -------------------------------------------------------------------------------------------------------


def test_an_annotation_is_shown_as_it_was_then(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        number = await place.input(1)
        for version, (begin, end) in enumerate([(2, 4), (4, 6)]):
            said = {"concept_ids": [f"v{version}"], "concept_values": [1.0], "metadata": {"version": version}}
            await place.past(number, "own", number, at(end), modified_at=at(begin), input_level=True, **said)
        await place.annotation(
            number, "own", number, modified_at=at(6), input_level=True, concept_ids=["now"], concept_values=[1]
        )

        async def said_at(minutes: float) -> tuple[list[str], list[str]]:
            by_area, by_name = await place.messages(area_hit(number), named(number, "own"), as_of=at(minutes))
            return words(by_area), words(by_name)

        assert await said_at(2) == (["v0"], ["v0"])
        assert await said_at(3.9) == (["v0"], ["v0"])
        assert await said_at(4) == (["v1"], ["v1"])
        assert await said_at(6) == (["now"], ["now"])
        (then,) = await place.messages(named(number, "own"), as_of=at(2))
        assert then.annotation.data.metadata["version"] == 0
        assert then.annotation.modified_at.ToDatetime(UTC) == at(2)
        assert [concept.id for concept in then.input.data.concepts] == ["now"]  # inputs are those of now

    in_app(database_url, scenario)


def test_who_was_not_there_then_is_not_shown_unless_nobody_else_was(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        number = await place.input(1)
        await place.annotation(number, "first", number, created_at=at(2), modified_at=at(2))
        await place.past(number, "deleted", number, at(8), created_at=at(1), modified_at=at(1))
        late = await place.input(2)
        await place.annotation(late, "late", late, created_at=at(20), modified_at=at(20))

        before, between, after = [
            [hit.annotation.id for hit in await place.messages(area_hit(number), area_hit(late), as_of=at(minutes))]
            for minutes in (0.5, 5, 9)
        ]
        by_name = await place.messages(named(number, "deleted"), named(late, "late"), as_of=at(5))

        assert before == ["first", "late"]
        assert between == ["deleted", "late"]
        assert after == ["first", "late"]
        assert [hit.annotation.id for hit in by_name] == ["deleted"]

    in_app(database_url, scenario)


def test_what_stood_on_an_area_that_is_gone_keeps_its_region(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        number = await place.input(1)
        box = {"box_top": 0.25, "box_left": 0.5, "box_bottom": 0.75, "box_right": 1.0}
        said = {"concept_ids": ["cat"], "concept_values": [0.5], "region_id": "r"}
        await place.past(number, "gone", 777, at(8), **said, **box)
        await place.annotation(number, "own", number, input_level=True, created_at=at(3), modified_at=at(3))

        whole, by_name = await place.messages(area_hit(number), named(number, "gone", number), as_of=at(5))
        (later,) = await place.messages(area_hit(number), as_of=at(8))

        for hit in (whole, by_name):
            assert (hit.annotation.id, hit.annotation.data.regions[0].id) == ("gone", "r")
            found = hit.annotation.data.regions[0].region_info.bounding_box
            assert (found.top_row, found.left_col, found.bottom_row, found.right_col) == (0.25, 0.5, 0.75, 1.0)
            assert words(hit) == ["cat"]
        assert later.annotation.id == "own"

    in_app(database_url, scenario)


def test_an_area_that_is_there_keeps_its_own_history(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        number = await place.input(1)
        region = await place.area(11, number, "r", 0.0, 0.0, 0.5, 0.5)
        await place.annotation(number, "own", number, input_level=True, modified_at=at(1), created_at=at(1))
        await place.past(
            number, "part", region, at(4), region_id="r", box_top=0, box_left=0, box_bottom=0.5, box_right=0.5
        )
        await place.annotation(number, "part", region, modified_at=at(4), concept_ids=["new"], concept_values=[1])

        whole, part = await place.messages(area_hit(number), area_hit(region, number=number), as_of=at(3))

        assert (whole.annotation.id, part.annotation.id) == ("own", "part")
        assert (words(part), part.annotation.data.regions[0].id) == ([], "r")

    in_app(database_url, scenario)


def test_a_time_reads_versions_in_the_same_snapshot_too(database_url: str) -> None:
    async def scenario(place: Place) -> None:
        for number in (2, 1):
            await place.input(number)
            await place.annotation(number, "own", number, input_level=True)

        page = await place.read(area_hit(2), area_hit(99), area_hit(1), as_of=EVER)

        assert page.versions == Versions(all=7, labels=5)
        assert [hit.input.id for hit in page.messages] == ["in-2", "in-1"]

    in_app(database_url, scenario)
