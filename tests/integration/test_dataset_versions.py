"""Versions of datasets: what they hold stays as it was when they were made (api-spec 3.2)."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api import service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    AnnotationFilter,
    AnnotationFilterConfig,
    BoundingBox,
    Concept,
    Data,
    Dataset,
    DatasetVersion,
    DatasetVersionProcessingInfo,
    Input,
    Key,
    Model,
    ModelPredictConfig,
    Region,
    RegionInfo,
    UserAppIDSet,
    Visibility,
)
from clarifai_grpc.grpc.api.resources_pb2 import App as AppMessage
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from google.protobuf.json_format import MessageToDict
from tests.integration.serving import PAT, SUCCESS, USER, App, Server, new_app
from tests.integration.test_dataset_inputs import has, named, note
from tests.integration.test_datasets import key_of_another_user, plain, struct
from tests.waiting import wait_for

PENDING, READY = 64005, 64015
CONCEPT_ID = 10


def dataset(app: App, *inputs: Input, dataset_id: str = "d") -> None:
    """A dataset of these new inputs."""
    app.call("PostDatasets", datasets=[Dataset(id=dataset_id)])
    if inputs:
        app.indexed(*inputs)
        ids = [item.id for item in inputs]
        app.call("PostDatasetInputs", dataset_id=dataset_id, dataset_inputs=named(*ids))


def version(app: App, dataset_id: str = "d", **fields: Any) -> DatasetVersion:
    """A new version."""
    made: DatasetVersion
    wanted = [DatasetVersion(**fields)]
    (made,) = app.call("PostDatasetVersions", dataset_id=dataset_id, dataset_versions=wanted).dataset_versions
    return made


def read(app: App, version_id: str, dataset_id: str = "d") -> DatasetVersion:
    """A version, as soon as it has been counted."""

    def counted() -> DatasetVersion | None:
        found: DatasetVersion
        found = app.call("GetDatasetVersion", dataset_id=dataset_id, dataset_version_id=version_id).dataset_version
        return found if found.status.code != PENDING else None

    return wait_for(f"version {version_id} to be counted", counted)


def groups(app: App, version_id: str, **fields: Any) -> dict[tuple[int, Any], dict[str, Any]]:
    """What was counted, by type and value, without zeros."""
    listed = app.call("ListDatasetVersionMetricsGroups", dataset_id="d", dataset_version_id=version_id, **fields)
    found = {}
    for group in listed.dataset_version_metrics_groups:
        metrics = MessageToDict(group.metrics, preserving_proto_field_name=True)
        counts = {name: int(count) for name, count in metrics.items() if isinstance(count, str)}
        value = group.value.string_value or group.value.number_value
        found[group.type, value] = {name: count for name, count in counts.items() if count}
    return found


def listed(app: App, **fields: Any) -> list[str]:
    return [one.id for one in app.call("ListDatasetVersions", dataset_id="d", **fields).dataset_versions]


def boxed(top: float, left: float, bottom: float, right: float, *concepts: Concept, input_id: str = "i0") -> Annotation:
    box = BoundingBox(top_row=top, left_col=left, bottom_row=bottom, right_col=right)
    region = Region(region_info=RegionInfo(bounding_box=box), data=Data(concepts=concepts))
    return Annotation(input_id=input_id, data=Data(regions=[region]))


# Making and reading -------------------------------------------------------------------------------------------------


def test_a_version_is_what_was_posted_and_gets_counted(app: App, server: Server) -> None:
    dataset(app, note("i0", has("cat")), note("i1"))

    made = version(app, id="v1", description="first", metadata=struct(run=7), visibility=Visibility(gettable=50))
    found = read(app, "v1")

    assert (made.id, made.description, made.dataset_id, made.status.code) == ("v1", "first", "d", PENDING)
    assert (made.app_id, made.user_id, made.visibility.gettable) == (app.id, USER, 50)
    assert plain(made.metadata) == {"run": 7}
    assert made.created_at == made.modified_at == found.created_at
    assert found.status.code == READY
    assert found.metrics[""].inputs_count.value == 2
    assert found.metrics[""].unlabeled_inputs_count.value == 1


def test_versions_are_listed_newest_first(app: App) -> None:
    dataset(app)
    for name in "abc":
        version(app, id=name)

    assert listed(app) == ["c", "b", "a"]
    assert listed(app, page=2, per_page=2) == ["a"]
    assert listed(app, request_origins=["MANUAL"]) == ["c", "b", "a"]
    assert listed(app, request_origins=["TRAINING"]) == []


def test_a_version_without_an_id_gets_one(app: App) -> None:
    dataset(app)
    made = version(app)
    assert len(made.id) == 32
    assert listed(app) == [made.id]


def test_an_id_that_is_taken_is_refused_and_nothing_is_made(app: App) -> None:
    dataset(app)
    version(app, id="v")
    dataset(app, dataset_id="e")

    again = app.ask(
        "PostDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion(id="new"), DatasetVersion(id="v")]
    )

    assert (again.status.code, listed(app)) == (40010, ["v"])
    assert "'v' of dataset 'd'" in again.status.details
    assert version(app, "e", id="v").dataset_id == "e"  # ids are those of one dataset


@pytest.mark.parametrize(
    ("wanted", "code", "told"),
    [
        (DatasetVersion(id="no spaces"), 11102, "dataset_versions[0].id is 'no spaces'"),
        (DatasetVersion(id="x" * 129), 11102, "128"),
        (DatasetVersion(description="\0"), 11102, "description"),
        (DatasetVersion(description="n" * 65537), 11102, "65536"),
        (DatasetVersion(metadata=struct(a="\0")), 11102, "metadata"),
        (DatasetVersion(visibility=Visibility(gettable=7)), 11102, "gettable is 7"),  # type: ignore[arg-type]
        (DatasetVersion(model_predict_config=ModelPredictConfig(model=Model(id="m"))), 11102, "model_predict_config"),
        (DatasetVersion(processing_info=DatasetVersionProcessingInfo()), 11102, "processing_info"),
        (DatasetVersion(embed_model_version_ids=["x"]), 11102, "embed_model_version_ids"),
        (
            DatasetVersion(
                annotation_filter_config=AnnotationFilterConfig(annotation_filter=AnnotationFilter(id="nobodys"))
            ),
            11101,
            "no annotation filter 'nobodys'",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_reason(app: App, wanted: DatasetVersion, code: int, told: str) -> None:
    dataset(app)
    refused = app.ask("PostDatasetVersions", dataset_id="d", dataset_versions=[wanted])
    assert (refused.status.code, listed(app)) == (code, [])
    assert told in refused.status.details


def test_what_is_not_there_is_named(app: App) -> None:
    dataset(app)
    version(app, id="v")
    unknown: list[tuple[str, dict[str, Any]]] = [
        ("PostDatasetVersions", {"dataset_id": "unknown", "dataset_versions": [DatasetVersion()]}),
        ("ListDatasetVersions", {"dataset_id": "unknown"}),
        ("GetDatasetVersion", {"dataset_id": "d", "dataset_version_id": "unknown"}),
        ("GetDatasetVersion", {"dataset_id": "d", "dataset_version_id": "un\0known"}),
        ("GetDatasetVersion", {"dataset_id": "unknown", "dataset_version_id": "v"}),
        ("ListDatasetVersionMetricsGroups", {"dataset_id": "d", "dataset_version_id": "unknown"}),
        (
            "PatchDatasetVersions",
            {"dataset_id": "d", "action": "merge", "dataset_versions": [DatasetVersion(id="unknown")]},
        ),
        ("DeleteDatasetVersions", {"dataset_id": "unknown", "dataset_version_ids": ["v"]}),
    ]
    assert {rpc: app.ask(rpc, **fields).status.code for rpc, fields in unknown} == dict.fromkeys(
        (rpc for rpc, _ in unknown), 11101
    )
    assert app.ask("PostDatasetVersions", dataset_id="d").status.code == 11102
    assert (
        app.ask("PostDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion()] * 129).status.code == 11102
    )
    twice = [DatasetVersion(id="x"), DatasetVersion(id="x")]
    assert app.ask("PostDatasetVersions", dataset_id="d", dataset_versions=twice).status.code == 11102


def test_a_list_of_datasets_names_the_latest_version_of_each(app: App) -> None:
    for name in "de":
        dataset(app, dataset_id=name)
    version(app, id="first")
    version(app, id="second", description="newer")
    datasets = {one.id: one.version for one in app.call("ListDatasets").datasets}
    assert (datasets["d"].id, datasets["d"].description, datasets["e"].id) == ("second", "newer", "")
    assert not app.call("GetDataset", dataset_id="d").dataset.HasField("version")


def test_of_another_users_public_app_public_versions_of_public_datasets_are_seen(app: App, server: Server) -> None:
    app.call("PostDatasets", datasets=[Dataset(id="d", visibility=Visibility(gettable=50))])
    version(app, id="mine")
    version(app, id="all", visibility=Visibility(gettable=50))
    app.call("PatchApp", action="overwrite", app={"id": app.id, "visibility": {"gettable": 50}})
    stranger = App(server=server, stub=app.stub, id=app.id, key=key_of_another_user(server))

    assert listed(stranger) == ["all"]
    assert stranger.call("ListDatasets").datasets[0].version.id == "all"
    assert stranger.ask("GetDatasetVersion", dataset_id="d", dataset_version_id="mine").status.code == 11101
    assert stranger.ask("PostDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion()]).status.code == 11007
    assert stranger.ask("DeleteDatasetVersions", dataset_id="d", dataset_version_ids=["all"]).status.code == 11007


def test_scopes(app: App, server: Server) -> None:
    dataset(app)
    version(app, id="v")
    reads = ["Apps_Get", "Datasets_Get", "SavedSearch_Get", "Concepts_Get"]
    posts = ["Apps_Get", "Datasets_Get", "Datasets_Add", "Models_Get", "Workflows_Get"]
    reader, poster = (
        App(server=server, stub=app.stub, id=app.id, key=key_with(app, scopes)) for scopes in (reads, posts)
    )

    assert listed(reader) == ["v"]
    assert reader.ask("PostDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion()]).status.code == 11007
    assert version(poster, id="w").id == "w"
    assert poster.ask("ListDatasetVersions", dataset_id="d").status.code == 11007
    assert poster.ask("DeleteDatasetVersions", dataset_id="d", dataset_version_ids=["v"]).status.code == 11007


def key_with(app: App, scopes: list[str]) -> str:
    """A key of the app that may do this."""
    wanted = Key(type="app_specific_key", scopes=scopes, apps=[AppMessage(id=app.id, user_id=USER)])
    request = service_pb2.PostKeysRequest(user_app_id=UserAppIDSet(user_id=USER), keys=[wanted])
    answer = app.stub.PostKeys(request, metadata=(("authorization", f"Key {PAT}"),))
    assert answer.status.code == SUCCESS, answer
    key: str = answer.keys[0].id
    return key


def test_over_rest(app: App) -> None:
    dataset(app, note("i0", has("cat")))
    body = {"dataset_versions": [{"id": "v", "description": "by hand", "metadata": {"a": 1}}]}

    made = app.rest("POST", "/datasets/d/versions", body)
    read(app, "v")
    found = app.rest("GET", "/datasets/d/versions/v")
    counted = app.rest("GET", "/datasets/d/versions/v/metrics?types=CONCEPT_ID")
    patch = {"action": "merge", "dataset_versions": [{"id": "v", "description": "changed"}]}
    patched = app.rest("PATCH", "/datasets/d/versions", patch)

    assert made["dataset_versions"][0]["status"]["code"] == PENDING
    assert found["dataset_version"]["metadata"] == {"a": 1}
    assert found["dataset_version"]["metrics"][""]["inputs_count"] == 1
    (group,) = counted["dataset_version_metrics_groups"]
    assert (group["type"], group["value"], group["metrics"]["positive_input_tags_count"]) == (CONCEPT_ID, "cat", 1)
    assert patched["dataset_versions"][0]["description"] == "changed"
    assert [one["id"] for one in app.rest("GET", "/datasets/d/versions")["dataset_versions"]] == ["v"]
    app.rest("DELETE", "/datasets/d/versions", {"dataset_version_ids": ["v"]})
    assert app.rest("GET", "/datasets/d/versions").get("dataset_versions", []) == []


# Changing and deleting ----------------------------------------------------------------------------------------------


def test_what_is_noted_changes_and_what_is_in_it_never(app: App) -> None:
    dataset(app)
    version(app, id="v", description="first", metadata=struct(a={"b": 1}))

    def patched(action: str, **fields: Any) -> DatasetVersion:
        wanted = [DatasetVersion(id="v", **fields)]
        answer = app.call("PatchDatasetVersions", dataset_id="d", action=action, dataset_versions=wanted)
        (found,) = answer.dataset_versions
        assert isinstance(found, DatasetVersion)
        return found

    merged = patched("merge", description="second", metadata=struct(a={"c": 2}))
    assert (merged.description, plain(merged.metadata)) == ("second", {"a": {"b": 1, "c": 2}})
    assert plain(patched("remove", metadata=struct(a={"b": True})).metadata) == {"a": {"c": 2}}
    overwritten = patched("overwrite", metadata=struct(x=1), visibility=Visibility(gettable=50))
    assert (overwritten.description, plain(overwritten.metadata)) == ("second", {"x": 1})
    assert overwritten.visibility.gettable == 50
    assert overwritten.modified_at.ToDatetime() > overwritten.created_at.ToDatetime()
    fixed = DatasetVersion(id="v", annotation_filter_config=AnnotationFilterConfig(ignore_empty_inputs=True))
    refused = app.ask("PatchDatasetVersions", dataset_id="d", action="merge", dataset_versions=[fixed])
    assert (refused.status.code, "never changes" in refused.status.details) == (11102, True)
    assert (
        app.ask("PatchDatasetVersions", dataset_id="d", dataset_versions=[DatasetVersion(id="v")]).status.code == 11102
    )
    noted = DatasetVersion(id="v", description="x")
    assert (
        app.ask("PatchDatasetVersions", dataset_id="d", action="remove", dataset_versions=[noted]).status.code == 11102
    )


def test_a_deleted_version_is_gone_and_others_stay(app: App) -> None:
    dataset(app, note("i0"))
    version(app, id="a")
    version(app, id="b")

    app.call("DeleteDatasetVersions", dataset_id="d", dataset_version_ids=["a", "unknown"])

    assert listed(app) == ["b"]
    assert app.ask("GetDatasetVersion", dataset_id="d", dataset_version_id="a").status.code == 11101
    assert read(app, "b").metrics[""].inputs_count.value == 1
    assert app.ask("DeleteDatasetVersions", dataset_id="d").status.code == 11102
    assert listed(app) == ["b"]


def test_versions_go_with_their_dataset(app: App, server: Server) -> None:
    dataset(app, note("i0"))
    version(app, id="v")
    read(app, "v")
    app.call("DeleteDatasetInputs", dataset_id="d", input_ids=["i0"])

    app.call("DeleteDatasets", dataset_ids=["d"])
    app.call("PostDatasets", datasets=[Dataset(id="d")])

    assert listed(app) == []
    for table in ("dataset_versions", "dataset_version_groups", "past_dataset_inputs"):
        assert server.sql(f"SELECT count(*) FROM {table} WHERE bucket = {_BUCKET}", app.id) == [(0,)]


def test_an_app_that_goes_takes_its_versions_along(stub: V2Stub, server: Server) -> None:
    app = new_app(server, stub)
    dataset(app, note("i0"))
    version(app, id="v")
    read(app, "v")
    (bucket,) = server.sql("SELECT first_bucket FROM apps WHERE id = %s", app.id)[0]

    app.call("DeleteApp")

    assert server.sql("SELECT count(*) FROM dataset_versions WHERE bucket = %s", bucket) == [(0,)]


_BUCKET = "(SELECT first_bucket FROM apps WHERE id = %s)"
