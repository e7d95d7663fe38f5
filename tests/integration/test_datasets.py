"""Datasets: making, reading, changing and deleting them (api-spec 3.2)."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import (
    AnnotationFilter,
    Data,
    Dataset,
    Image,
    Input,
    Search,
    Text,
    Visibility,
)
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict
from tests.integration.serving import USER, App, Server, new_app

from sightrank.api.identity import key_hash

PRIVATE, PUBLIC = Visibility.PRIVATE, Visibility.PUBLIC


def struct(**values: Any) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(values)
    return made


def plain(metadata: struct_pb2.Struct) -> dict[str, Any]:
    """As JSON."""
    made: dict[str, Any] = MessageToDict(metadata)
    return made


def listed(app: App, **fields: Any) -> list[str]:
    return [dataset.id for dataset in app.call("ListDatasets", **fields).datasets]


def patched(app: App, action: str, **fields: Any) -> Dataset:
    dataset: Dataset
    (dataset,) = app.call("PatchDatasets", action=action, datasets=[Dataset(**fields)]).datasets
    assert app.call("GetDataset", dataset_id=fields["id"]).dataset == dataset
    return dataset


def full(app: App, **changes: Any) -> Dataset:
    """A new dataset with something in every field."""
    fields: dict[str, Any] = {
        "id": "full",
        "description": "of last summer",
        "notes": "sorted by hand",
        "metadata": struct(year=2026, place={"country": "Norway"}),
        "visibility": Visibility(gettable=PUBLIC),
        "image": Image(url="https://example.com/cover.jpg"),
    }
    dataset: Dataset
    (dataset,) = app.call("PostDatasets", datasets=[Dataset(**(fields | changes))]).datasets
    return dataset


def test_a_dataset_comes_back_as_it_was_posted(app: App) -> None:
    made = full(app)
    assert made == app.call("GetDataset", dataset_id="full").dataset
    assert made == app.call("ListDatasets").datasets[0]
    assert (made.id, made.user_id, made.app_id) == ("full", USER, app.id)
    assert (made.description, made.notes) == ("of last summer", "sorted by hand")
    assert made.image.url == "https://example.com/cover.jpg"
    assert made.visibility.gettable == PUBLIC
    assert plain(made.metadata) == {"place": {"country": "Norway"}, "year": 2026}
    assert made.created_at.ToDatetime() == made.modified_at.ToDatetime()


def test_a_dataset_may_be_nothing_but_an_id_or_not_even_that(app: App) -> None:
    named, unnamed = app.call("PostDatasets", datasets=[Dataset(id="bare"), Dataset()]).datasets
    assert (named.description, named.notes, named.image.url, named.visibility.gettable) == ("", "", "", PRIVATE)
    assert not named.HasField("image")
    assert not named.HasField("default_annotation_filter")
    assert len(unnamed.id) == 32
    assert listed(app) == [unnamed.id, "bare"]


def test_over_rest_fields_that_the_api_once_had_are_ignored(app: App) -> None:
    body = {
        "datasets": [
            {
                "id": "old",
                "name": "old",
                "type": "x",
                "default_filter_id": "f",
                "closed_environment": True,
                "notes": "n",
            }
        ]
    }
    made = app.rest("POST", "/datasets", body)["datasets"][0]
    assert (made["id"], made["notes"], made["visibility"]) == ("old", "n", {"gettable": PRIVATE})
    assert app.rest("GET", "/datasets/old")["dataset"] == made
    patch = {"action": "merge", "datasets": [{"id": "old", "metadata": {"a": [1]}}]}
    assert app.rest("PATCH", "/datasets", patch)["datasets"][0]["metadata"] == {"a": [1]}
    assert app.rest("DELETE", "/datasets", {"dataset_ids": ["old"]})["status"]["code"] == 10000
    assert app.rest("GET", "/datasets/old")["status"]["code"] == 11101
    assert app.rest("GET", "/datasets")["datasets"] == []


def test_a_dataset_names_an_annotation_filter_that_exists(app: App) -> None:
    app.call("PostAnnotationFilters", annotation_filters=[AnnotationFilter(id="trusted", search=Search())])
    made = full(app, default_annotation_filter=AnnotationFilter(id="trusted"))
    assert made.default_annotation_filter.id == "trusted"
    unknown = Dataset(id="full", default_annotation_filter=AnnotationFilter(id="nobodys"))
    refused = app.ask("PatchDatasets", action="merge", datasets=[unknown])
    assert refused.status.code == 11101
    assert "'nobodys'" in refused.status.details
    assert app.ask("PostDatasets", datasets=[unknown]).status.code == 11101

    app.call("DeleteAnnotationFilters", annotation_filter_ids=["trusted"])

    # What a dataset says is not undone behind its back, and it can still be changed.
    assert patched(app, "merge", id="full", notes="new").default_annotation_filter.id == "trusted"


@pytest.mark.parametrize(
    ("dataset", "code", "told"),
    [
        (Dataset(id="no spaces"), 11102, "datasets[0].id is 'no spaces'"),
        (Dataset(id="x" * 129), 11102, "128"),
        (Dataset(id="x", description="no\0"), 11102, "description"),
        (Dataset(id="x", notes="n" * 65537), 11102, "65536"),
        (Dataset(id="x", metadata=struct(a="\0")), 11102, "metadata"),
        (Dataset(id="x", visibility=Visibility(gettable=7)), 11102, "visibility.gettable is 7"),  # type: ignore[arg-type]
        (Dataset(id="x", image=Image(base64=b"x")), 11102, "image.base64"),
        (Dataset(id="x", image=Image(url="file:///etc/passwd")), 11102, "http://"),
    ],
)
def test_a_dataset_that_cannot_be_made_is_refused_with_all_others(
    app: App, dataset: Dataset, code: int, told: str
) -> None:
    refused = app.ask("PostDatasets", datasets=[dataset, Dataset(id="fine")])
    assert refused.status.code == code
    assert told in refused.status.details
    assert listed(app) == []


def test_ids_are_unique(app: App) -> None:
    app.call("PostDatasets", datasets=[Dataset(id="a", description="first")])
    taken = app.ask("PostDatasets", datasets=[Dataset(id="b"), Dataset(id="a")])
    assert (taken.status.code, "'a'" in taken.status.details) == (40010, True)
    twice = app.ask("PostDatasets", datasets=[Dataset(id="c"), Dataset(id="c")])
    assert (twice.status.code, "'c' twice" in twice.status.details) == (11102, True)
    assert app.ask("PostDatasets").status.code == 11102
    assert app.ask("PostDatasets", datasets=[Dataset()] * 129).status.code == 11102
    assert listed(app) == ["a"]


def test_a_list_is_newest_first_and_comes_in_pages(app: App) -> None:
    names = [f"d{n}" for n in range(5)]
    app.call("PostDatasets", datasets=[Dataset(id=name) for name in names])
    assert listed(app) == names[::-1]
    assert listed(app, per_page=2, page=2) == ["d2", "d1"]
    assert listed(app, per_page=2, page=4) == []
    assert listed(app, sort_ascending=True) == names
    assert app.ask("ListDatasets", per_page=1001).status.code == 11102


def test_a_list_can_be_sorted_and_narrowed(app: App) -> None:
    datasets = [
        Dataset(id="cats-2025", description="Indoors"),
        Dataset(id="dogs", notes="all in the garden"),
        Dataset(id="cats-2026", description="in the GARDEN"),
    ]
    app.call("PostDatasets", datasets=datasets)
    patched(app, "merge", id="dogs", description="friends")
    assert listed(app, id="CATS") == ["cats-2026", "cats-2025"]
    assert listed(app, search="garden the") == ["cats-2026", "dogs"]
    assert listed(app, search="cats gard") == ["cats-2026"]
    assert listed(app, search="nothing") == []
    assert listed(app, sort_by_id=True, sort_ascending=True) == ["cats-2025", "cats-2026", "dogs"]
    assert listed(app, sort_by_modified_at=True) == ["dogs", "cats-2026", "cats-2025"]
    assert listed(app, sort_by_star_count=True) == ["cats-2026", "dogs", "cats-2025"]
    assert listed(app, starred_only=True) == []
    assert listed(app, bookmark=True) == []


def test_merge_adds_and_keeps(app: App) -> None:
    before = full(app)
    after = patched(app, "merge", id="full", notes="new", metadata=struct(place={"city": "Oslo"}, tags=["x"]))
    assert plain(after.metadata) == {"place": {"country": "Norway", "city": "Oslo"}, "tags": ["x"], "year": 2026}
    assert (after.description, after.notes, after.image.url) == (before.description, "new", before.image.url)
    assert after.visibility.gettable == PUBLIC
    assert after.created_at == before.created_at
    assert after.modified_at.ToDatetime() > before.modified_at.ToDatetime()


def test_overwrite_replaces_what_is_sent(app: App) -> None:
    full(app)
    after = patched(
        app,
        "overwrite",
        id="full",
        metadata=struct(place="home"),
        visibility=Visibility(gettable=PRIVATE),
        image=Image(url="http://example.com/other.png"),
    )
    assert plain(after.metadata) == {"place": "home"}
    assert (after.visibility.gettable, after.image.url) == (PRIVATE, "http://example.com/other.png")
    assert (after.description, after.notes) == ("of last summer", "sorted by hand")
    assert plain(patched(app, "overwrite", id="full", metadata=struct()).metadata) == {}


def test_remove_takes_the_image_and_metadata_and_nothing_else(app: App) -> None:
    full(app)
    wrong = app.ask("PatchDatasets", action="remove", datasets=[Dataset(id="full", image=Image(url="http://x"))])
    assert wrong.status.code == 11102
    assert "https://example.com/cover.jpg" in wrong.status.details
    other = app.ask("PatchDatasets", action="remove", datasets=[Dataset(id="full", notes="sorted by hand")])
    assert (other.status.code, "notes" in other.status.details) == (11102, True)

    url = "https://example.com/cover.jpg"
    after = patched(app, "remove", id="full", image=Image(url=url), metadata=struct(year=True))

    assert not after.HasField("image")
    assert plain(after.metadata) == {"place": {"country": "Norway"}}
    assert after.notes == "sorted by hand"


def test_a_patch_changes_all_or_nothing(app: App) -> None:
    full(app)
    app.call("PostDatasets", datasets=[Dataset(id="other")])
    good = Dataset(id="other", notes="changed")
    for bad, code in (
        (Dataset(id="unknown", notes="x"), 11101),
        (Dataset(notes="x"), 11101),
        (Dataset(id="other", notes="y"), 11102),
        (Dataset(id="full", image=Image(url="ftp://x")), 11102),
        (Dataset(id="fu\0ll"), 11102),
    ):
        assert app.ask("PatchDatasets", action="merge", datasets=[good, bad]).status.code == code
        assert app.call("GetDataset", dataset_id="other").dataset.notes == ""
    assert app.ask("PatchDatasets", action="replace", datasets=[good]).status.code == 11102
    assert app.ask("PatchDatasets", datasets=[good]).status.code == 11102
    assert app.ask("PatchDatasets", action="merge").status.code == 11102


def test_deleting_keeps_the_inputs(app: App) -> None:
    app.call("PostDatasets", datasets=[Dataset(id=name) for name in "ab"])
    app.post(Input(id="i", data=Data(text=Text(raw="text")), dataset_ids=["a", "b"]))
    app.call("DeleteDatasets", dataset_ids=["a", "unknown"])
    assert listed(app) == ["b"]
    assert app.call("GetInput", input_id="i").input.id == "i"
    assert [item.input.id for item in app.call("ListDatasetInputs", dataset_id="b").dataset_inputs] == ["i"]
    assert app.ask("DeleteDatasets").status.code == 11102
    assert listed(app) == ["b"]


def test_a_dataset_that_is_not_there(app: App) -> None:
    for name in ("unknown", "un\0known", ""):
        answer = app.ask("GetDataset", dataset_id=name)
        assert answer.status.code == 11101, answer


def test_datasets_are_of_one_app(app: App, server: Server, stub: V2Stub) -> None:
    full(app)
    other = new_app(server, stub)
    assert listed(other) == []
    assert other.ask("GetDataset", dataset_id="full").status.code == 11101
    assert other.ask("PatchDatasets", action="merge", datasets=[Dataset(id="full")]).status.code == 11101
    other.call("DeleteDatasets", dataset_ids=["full"])
    assert listed(app) == ["full"]


def test_of_another_users_public_app_only_public_datasets_are_seen(app: App, server: Server) -> None:
    app.call("PostDatasets", datasets=[Dataset(id="mine"), Dataset(id="all", visibility=Visibility(gettable=PUBLIC))])
    stranger = App(server=server, stub=app.stub, id=app.id, key=key_of_another_user(server))
    assert stranger.ask("ListDatasets").status.code == 11101

    app.call("PatchApp", action="overwrite", app={"id": app.id, "visibility": {"gettable": PUBLIC}})

    assert listed(stranger) == ["all"]
    assert stranger.call("GetDataset", dataset_id="all").dataset.id == "all"
    assert stranger.ask("GetDataset", dataset_id="mine").status.code == 11101
    assert stranger.ask("ListDatasetInputs", dataset_id="mine").status.code == 11101
    assert stranger.ask("PatchDatasets", action="merge", datasets=[Dataset(id="all")]).status.code == 11007
    assert set(listed(app)) == {"mine", "all"}


def key_of_another_user(server: Server) -> str:
    """A personal access token of a user made for a test."""
    token = uuid.uuid4().hex
    server.sql("INSERT INTO users (id) VALUES (%s) RETURNING id", f"user-{token}")
    server.sql(
        "INSERT INTO keys (hash, prefix, user_id, type) VALUES (%s, %s, %s, 'personal_access_token') RETURNING prefix",
        key_hash(token),
        token[:4],
        f"user-{token}",
    )
    return token


def test_calls_at_once_name_datasets_in_any_order(app: App) -> None:
    names = [f"d{n}" for n in range(20)]

    def post(turn: int) -> int:
        order = names if turn % 2 else names[::-1]
        return int(app.ask("PostDatasets", datasets=[Dataset(id=name) for name in order]).status.code)

    def change(turn: int) -> int:
        order = names if turn % 2 else names[::-1]
        if turn % 3 == 0:
            return int(app.ask("DeleteDatasets", dataset_ids=order).status.code)
        patches = [Dataset(id=name, metadata=struct(**{str(turn): turn})) for name in order]
        return int(app.ask("PatchDatasets", action="merge", datasets=patches).status.code)

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(post, range(8))) == [10000] + [40010] * 7
        assert sorted(listed(app)) == sorted(names)
        assert set(threads.map(change, range(24))) <= {10000, 11101}
    assert listed(app) == []
