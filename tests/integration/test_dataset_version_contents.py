"""What a version of a dataset tells: its members and what was said of them, the same each time, also among writers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    AnnotationFilter,
    AnnotationFilterConfig,
    Data,
    Dataset,
    DatasetVersion,
    Filter,
    Input,
    Search,
    Text,
)
from google.protobuf.timestamp_pb2 import Timestamp
from tests.integration.serving import FAILURE, MIXED, SUCCESS, App, Server, of_bytes, picture
from tests.integration.test_changes_together import INPUTS, acts
from tests.integration.test_dataset_inputs import has, labelled, named, note, search
from tests.integration.test_dataset_versions import boxed, dataset, groups, read, version
from tests.integration.test_datasets import struct

from sightrank.api.records import AnnotationRecord
from sightrank.search.dataset_version import DatasetVersion as Version
from sightrank.search.dataset_version import Member, find_version, read_annotations, read_members
from sightrank.store.database import Database

#: Ids of members in the order in which they joined, with what was said of each: concepts and values, by annotation.
Content = dict[str, dict[str, dict[str, float]]]


def content(app: App, version_id: str, *, portion: int = 2, dataset_id: str = "d") -> Content:
    """What a version tells, read in small portions. Input-level annotations are called ''."""

    async def found() -> Content:
        database = Database(app.server.database_url)
        await database.open()
        try:
            return await _content(database, await _find(database, app, dataset_id, version_id), portion)
        finally:
            await database.close()

    return asyncio.run(found())


async def _find(database: Database, app: App, dataset_id: str, version_id: str) -> Version:
    row = await database.row("SELECT first_bucket FROM apps WHERE id = %s", [app.id])
    assert row is not None
    async with database.connection() as connection:
        one = await find_version(connection, row[0], dataset_id, version_id)
    assert one is not None
    return one


async def _content(database: Database, one: Version, portion: int) -> Content:
    told: Content = {}
    members: list[Member] = []
    async with database.connection() as connection:
        while True:
            after = {"after": members[-1]} if members else {}
            members = await read_members(connection, one, limit=portion, **after)
            rows = await read_annotations(connection, one, [member.number for member in members])
            told |= {member.id: {} for member in members}
            for row in map(AnnotationRecord._make, rows):
                said = dict(zip(row.concept_ids, row.concept_values, strict=True))
                told[row.input_id]["" if row.input_level else row.id] = said
            if len(members) < portion:
                return told


def wording(input_id: str, name: str, *concepts: Any) -> Annotation:
    return Annotation(input_id=input_id, id=name, data=Data(concepts=concepts))


def test_nothing_that_happens_later_is_in_it(app: App) -> None:
    dataset(app, *(note(f"i{n}", has("cat")) for n in range(4)))
    app.annotate(wording("i1", "one", has("dog")), wording("i2", "two", has("bird")))
    before: Content = {
        "i0": {"": {"cat": 1.0}},
        "i1": {"": {"cat": 1.0}, "one": {"dog": 1.0}},
        "i2": {"": {"cat": 1.0}, "two": {"bird": 1.0}},
        "i3": {"": {"cat": 1.0}},
    }
    version(app, id="v")

    app.indexed(note("i4", datasets=["d"]))
    app.call("PostDatasets", datasets=[Dataset(id="e")])
    app.call("PostDatasetInputs", dataset_id="e", dataset_inputs=named("i0"))
    app.annotate(wording("i0", "late", has("fish")))
    app.patch("overwrite", wording("i1", "one", has("dog", 0.0), has("fish")))
    app.call("DeleteAnnotation", input_id="i2", annotation_id="two")
    app.call("PatchInputs", action="overwrite", inputs=[Input(id="i3", data=Data(concepts=[has("dog")]))])
    app.call("DeleteDatasetInputs", dataset_id="d", input_ids=["i0", "i1"])
    app.call("PostDatasetInputs", dataset_id="d", dataset_inputs=named("i1"))
    version(app, id="later")

    assert content(app, "v") == before
    assert list(content(app, "v")) == list(before)
    assert content(app, "later") == {
        "i2": {"": {"cat": 1.0}},
        "i3": {"": {"dog": 1.0}},
        "i4": {"": {}},
        "i1": {"": {"cat": 1.0}, "one": {"dog": 0.0, "fish": 1.0}},
    }
    assert read(app, "v").metrics[""].inputs_count.value == 4


def test_inputs_that_are_deleted_are_gone_from_versions_too(app: App) -> None:
    dataset(app, note("i0", has("cat")), note("i1", has("cat")), note("i2"))
    version(app, id="v")
    read(app, "v")
    app.call("DeleteDatasetInputs", dataset_id="d", input_ids=["i1"])

    app.call("DeleteInputs", ids=["i0", "i1"])
    app.indexed(note("i0", has("dog"), datasets=["d"]))

    assert content(app, "v") == {"i2": {"": {}}}
    assert read(app, "v").metrics[""].inputs_count.value == 3  # as it was counted


def test_a_membership_is_kept_as_long_as_a_version_tells_of_it(app: App, server: Server) -> None:
    dataset(app, *(note(f"i{n}") for n in range(3)))
    app.call("DeleteDatasetInputs", dataset_id="d", input_ids=["i0"])
    assert kept_memberships(app, server) == []
    version(app, id="v")
    version(app, id="w")

    app.call("DeleteDatasetInputs", dataset_id="d", input_ids=["i1"])
    app.indexed(note("late", datasets=["d"]))
    app.call("DeleteDatasetInputs", dataset_id="d", input_ids=["late"])
    assert kept_memberships(app, server) == ["i1"]

    app.call("DeleteDatasetVersions", dataset_id="d", dataset_version_ids=["v"])
    assert kept_memberships(app, server) == ["i1"]
    assert list(content(app, "w")) == ["i1", "i2"]
    app.call("DeleteDatasetVersions", dataset_id="d", dataset_version_ids=["w"])
    assert kept_memberships(app, server) == []


def kept_memberships(app: App, server: Server) -> list[str]:
    statement = (
        "SELECT i.id FROM past_dataset_inputs m JOIN inputs i ON i.bucket = m.bucket AND i.number = m.input_number"
        " WHERE m.bucket = (SELECT first_bucket FROM apps WHERE id = %s) ORDER BY 1"
    )
    return [name for (name,) in server.sql(statement, app.id)]


# Filters ------------------------------------------------------------------------------------------------------------


def filtered(app: App, version_id: str, filter_id: str = "", *, ignore_empty: bool = False) -> DatasetVersion:
    config = AnnotationFilterConfig(ignore_empty_inputs=ignore_empty)
    if filter_id:
        config.annotation_filter.id = filter_id
    return version(app, id=version_id, annotation_filter_config=config)


def test_a_filter_says_which_annotations_count_for_good(app: App) -> None:
    dataset(app, note("i0", has("cat")), note("i1", has("dog")), note("i2"))
    app.annotate(wording("i0", "one", has("dog")), wording("i0", "two", has("cat")))
    cats = AnnotationFilter(id="cats", search=search(labelled(has("cat"))))
    app.call("PostAnnotationFilters", annotation_filters=[cats])
    made = filtered(app, "all", "cats")
    filtered(app, "some", "cats", ignore_empty=True)
    found = [read(app, name) for name in ("all", "some")]

    app.annotate(wording("i1", "late", has("cat")))
    app.patch("overwrite", wording("i0", "two", has("dog")))
    dogs = AnnotationFilter(id="cats", search=search(labelled(has("dog"))))
    app.call("PatchAnnotationFilters", action="overwrite", annotation_filters=[dogs])
    app.call("DeleteAnnotationFilters", annotation_filter_ids=["cats"])

    assert content(app, "all") == {"i0": {"": {"cat": 1.0}, "two": {"cat": 1.0}}, "i1": {}, "i2": {}}
    assert content(app, "some") == {"i0": {"": {"cat": 1.0}, "two": {"cat": 1.0}}}
    assert made.annotation_filter_config.annotation_filter.search == cats.search
    assert [one.metrics[""].inputs_count.value for one in found] == [3, 1]
    assert [one.metrics[""].unlabeled_inputs_count.value for one in found] == [2, 0]
    shown = app.call("GetDatasetVersion", dataset_id="d", dataset_version_id="all").dataset_version
    assert shown.annotation_filter_config.annotation_filter.id == "cats"


def test_inputs_of_which_nothing_was_said_can_be_left_out_without_a_filter(app: App) -> None:
    dataset(
        app, note("i0"), note("i1", has("dog")), Input(id="i2", data=Data(text=Text(raw="x"), metadata=struct(a=1)))
    )
    app.annotate(Annotation(input_id="i0", id="empty"))

    made = filtered(app, "v", ignore_empty=True)
    read(app, "v")

    assert list(content(app, "v")) == ["i1", "i2"]
    assert made.annotation_filter_config.ignore_empty_inputs
    assert not made.annotation_filter_config.HasField("annotation_filter")


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (search(labelled(has("cat")), as_of=Timestamp(seconds=1)), "as_of"),
        (search(Filter(annotation=Annotation(model_version_id="v1"))), "what a model said"),
    ],
)
def test_filters_without_a_sense_are_refused(app: App, wanted: Search, told: str) -> None:
    dataset(app, note("i0"))
    app.call("PostAnnotationFilters", annotation_filters=[AnnotationFilter(id="f", search=wanted)])
    config = AnnotationFilterConfig(annotation_filter=AnnotationFilter(id="f"))
    answer = app.ask(
        "PostDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion(annotation_filter_config=config)]
    )
    assert answer.status.code == 11102
    assert told in answer.status.details


# Counting -----------------------------------------------------------------------------------------------------------


def test_everything_is_counted(app: App) -> None:
    dataset(
        app,
        of_bytes(picture(1, width=300, height=200), "i0", concepts=[has("cat"), has("dog", 0.0)], metadata=struct(a=1)),
        of_bytes(picture(2, width=200, height=200), "i1"),
        note("i2", has("cat"), has("bird")),
        note("i3", has("cat", 0.0)),
    )
    app.annotate(
        boxed(0.1, 0.1, 0.2, 0.2, has("cat")),
        boxed(0.1, 0.1, 0.9, 0.9, has("cat"), has("dog")),
        boxed(0.6, 0.1, 0.9, 0.4, has("dog"), input_id="i1"),
    )
    version(app, id="v")
    read(app, "v")

    found = groups(app, "v")

    assert found[0, "total"] == {
        "inputs_count": 4,
        "unlabeled_inputs_count": 1,
        "inputs_with_metadata_count": 1,
        "regions_count": 3,
        "bounding_boxes_count": 3,
        "region_inputs_count": 2,
        "positive_input_tags_count": 3,
        "positive_region_tags_count": 4,
    }
    assert {key: counts["inputs_count"] for key, counts in found.items() if key[0] == 2} == {
        (2, "images"): 2,
        (2, "text"): 2,
    }
    cat, dog, bird = (found[10, name] for name in ("cat", "dog", "bird"))
    assert (cat["inputs_count"], cat["bounding_boxes_count"], cat["positive_input_tags_count"]) == (2, 2, 2)
    assert (dog["inputs_count"], dog["bounding_boxes_count"], dog.get("positive_input_tags_count")) == (2, 2, None)
    assert bird == {"inputs_count": 1, "positive_input_tags_count": 1}
    counted = {kind: {v: c["inputs_count"] for (k, v), c in found.items() if k == kind} for kind in (11, 20, 30, 31)}
    assert counted == {
        11: {0: 1, 1: 1, 2: 2},
        20: {0: 2, 1: 1, 2: 1},
        30: {0: 2},
        31: {1.5: 1, 1.0: 1},
    }
    matrix = read(app, "v").metrics[""].region_location_matrix
    assert (matrix.n_cols, list(matrix.data)) == (2, [2, 1, 2, 1])


def test_groups_are_chosen_and_paged(app: App) -> None:
    dataset(app, note("i0", has("cat"), has("dog")), note("i1", has("dog")))
    version(app, id="v")
    read(app, "v")

    assert [value for _, value in groups(app, "v", types=[10])] == ["dog", "cat"]
    assert list(groups(app, "v", values=[{"string_value": "cat"}, {"number_value": 1}])) == [(10, "cat"), (11, 1)]
    assert list(groups(app, "v", parent_paths=["elsewhere"])) == []
    assert list(groups(app, "v", page=2, per_page=1)) == [(2, "text")]
    assert list(groups(app, "v"))[:2] == [(0, "total"), (2, "text")]


def test_an_empty_dataset_is_counted(app: App) -> None:
    dataset(app)
    version(app, id="v")
    assert read(app, "v").metrics[""].inputs_count.value == 0
    assert groups(app, "v") == {(0, "total"): {}}


# Among writers ------------------------------------------------------------------------------------------------------


def test_versions_that_are_made_among_writers_tell_the_same_each_time(app: App) -> None:
    dataset(app, *(of_bytes(picture(n), name) for n, name in enumerate(INPUTS)))
    post, _, label, move, judge, patch, drop, _ = acts(app)
    told: dict[str, Content] = {}

    def join(dice: random.Random) -> Any:
        return app.ask("PostDatasetInputs", dataset_id="d", dataset_inputs=named(*dice.sample(INPUTS, 3)))

    def leave(dice: random.Random) -> Any:
        return app.ask("DeleteDatasetInputs", dataset_id="d", input_ids=dice.sample(INPUTS, 2))

    def arrive(dice: random.Random) -> Any:
        return app.ask("PostInputs", inputs=[note(f"new-{dice.random()}", has("cat"), datasets=["d"])])

    def freeze(_: random.Random) -> Any:
        answer = app.ask("PostDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion()])
        for one in answer.dataset_versions:
            told[one.id] = content(app, one.id)
        return answer

    made: list[Callable[[random.Random], Any]] = [post, label, move, judge, patch, drop, join, leave, arrive, freeze]

    def work(seed: int) -> Any:
        dice = random.Random(seed)
        return dice.choice(made)(dice)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(work, range(240)))

    odd = [answer.status for answer in answers if answer.status.code not in (SUCCESS, MIXED, FAILURE)]
    assert odd == []
    assert len(told) > 10
    assert {name: content(app, name) for name in told} == told
    assert {name: list(content(app, name)) for name in told} == {name: list(one) for name, one in told.items()}
