"""Filters of lists of models, workflows and apps: each is answered, over gRPC and REST; none does nothing."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Model, ModelVersion, UserAppIDSet, Visibility, Workflow, WorkflowNode
from tests.integration.serving import PAT, SUCCESS, USER, App

PUBLIC, PRIVATE = Visibility(gettable=50), Visibility(gettable=10)


@pytest.fixture
def shelf(app: App) -> App:
    """An app with models and workflows, of which ``open`` is public."""
    for name in ("closed", "open"):
        visibility = PUBLIC if name == "open" else PRIVATE
        app.call("PostModels", models=[Model(id=name, name=f"The {name} one", visibility=visibility)])
        node = WorkflowNode(id="a", model=Model(id="general-image-recognition"))
        app.call("PostWorkflows", workflows=[Workflow(id=name, nodes=[node], visibility=visibility)])
    version = ModelVersion(license="MIT", output_info=resources_pb2.OutputInfo())
    version.output_info.data.concepts.add(id="c")
    app.call("PostModelVersions", model_id="closed", model_versions=[version])
    return app


def listed(app: App, noun: str, query: str, **fields: Any) -> list[str]:
    """Ids in the answer, which REST and gRPC agree on."""
    rpc = {"models": "ListModels", "workflows": "ListWorkflows"}[noun]
    over_grpc = [item.id for item in getattr(app.call(rpc, **fields), noun)]
    answer = app.rest("GET", f"/{noun}?{query}")
    assert answer["status"]["code"] == SUCCESS, answer
    assert [item["id"] for item in answer[noun]] == over_grpc
    return over_grpc


@pytest.mark.parametrize(
    ("query", "fields", "ids"),
    [
        ("license=MIT", {"license": "MIT"}, ["closed"]),
        ("license=GPL", {"license": "GPL"}, []),
        ("license=MIT&page=2&per_page=1", {"license": "MIT", "page": 2, "per_page": 1}, []),
        ("license_type=OPEN_SOURCE", {"license_type": 2}, []),
        (f"creator={USER}", {"creator": USER}, ["open", "closed"]),
        ("creator=somebody", {"creator": "somebody"}, []),
        ("source=1", {"source": 1}, []),
        ("min_replicas=1", {"min_replicas": 1}, []),
        ("visibility.gettable=50", {"visibility": PUBLIC}, ["open"]),
        ("visibility.gettable=30", {"visibility": Visibility(gettable=30)}, []),
        ("bookmark=true", {"bookmark": True}, []),
        ("starred_only=true", {"starred_only": True}, []),
        ("name=the*open*", {"name": "the*open*"}, ["open"]),
    ],
)
def test_models_are_filtered(shelf: App, query: str, fields: dict[str, Any], ids: list[str]) -> None:
    assert listed(shelf, "models", query, **fields) == ids


@pytest.mark.parametrize(
    ("query", "fields", "ids"),
    [
        ("featured_only=true", {"featured_only": True}, []),
        ("bookmark=true", {"bookmark": True}, []),
        ("starred_only=true", {"starred_only": True}, []),
        ("visibility.gettable=50", {"visibility": PUBLIC}, ["open"]),
        ("visibility.gettable=10", {"visibility": PRIVATE}, ["closed"]),
        ("id=op*", {"id": "op*"}, ["open"]),
        ("id=*o*e*", {"id": "*o*e*"}, ["open", "closed"]),
        ("id=c_osed", {"id": "c_osed"}, []),
        ("id=ope", {"id": "ope"}, []),
        ("id=open", {"id": "open"}, ["open"]),
    ],
)
def test_workflows_are_filtered(shelf: App, query: str, fields: dict[str, Any], ids: list[str]) -> None:
    assert listed(shelf, "workflows", query, **fields) == ids


PUBLIC_LISTS = [
    ("models", "license=MIT", set()),
    ("models", "creator=admin", set()),
    ("models", "creator=clarifai", {"general-image-recognition", "general-image-embedding"}),
    ("models", "visibility.gettable=10", set()),
    ("models", "toolkits=x", set()),
    ("models", "bookmark=true", set()),
    ("models", "min_replicas=1", set()),
    ("models", "output_fields=concepts&name=*recognition", {"general-image-recognition"}),
    ("workflows", "id=gen*", {"General"}),
    ("workflows", "id=x*", set()),
    ("workflows", "visibility.gettable=10", set()),
    ("workflows", "visibility.gettable=50", {"General"}),
    ("workflows", "bookmark=true", set()),
]


@pytest.mark.parametrize(("noun", "query", "ids"), PUBLIC_LISTS)
def test_public_ones_are_filtered_too(app: App, noun: str, query: str, ids: set[str]) -> None:
    answer = app.server.rest("GET", f"/v2/users/clarifai/apps/main/{noun}?{query}").json()

    assert answer["status"]["code"] == SUCCESS
    found = {item["id"] for item in answer.get(noun, [])}
    assert found >= ids
    assert bool(found) == bool(ids)


def test_apps_are_filtered(app: App) -> None:
    mark = uuid.uuid4().hex[:8]

    def ids(query: str, **fields: Any) -> list[str]:
        request = service_pb2.ListAppsRequest(user_app_id=UserAppIDSet(user_id=USER), **fields)
        over_grpc = app.stub.ListApps(request, metadata=(("authorization", f"Key {PAT}"),))
        answer = app.server.rest("GET", f"/v2/users/me/apps?{query}").json()
        assert [item["id"] for item in answer["apps"]] == [item.id for item in over_grpc.apps]
        return [item["id"] for item in answer["apps"]]

    made = [
        {"id": f"{mark}-photos", "name": f"{mark} Holiday Photos", "visibility": {"gettable": 50}},
        {"id": f"{mark}-scans", "name": f"{mark} Paper"},
    ]
    assert app.server.rest("POST", "/v2/users/me/apps", {"apps": made}).json()["status"]["code"] == SUCCESS

    photos, scans = f"{mark}-photos", f"{mark}-scans"
    assert ids(f"id={mark}*", id=f"{mark}*") == [scans, photos]
    assert ids(f"id={mark}-pho*", id=f"{mark}-pho*") == [photos]
    assert ids(f"id={mark}", id=mark) == [scans, photos]
    assert ids(f"id={mark}*&visibility.gettable=50", id=f"{mark}*", visibility=PUBLIC) == [photos]
    assert ids(f"id={mark}*&visibility.gettable=10", id=f"{mark}*", visibility=PRIVATE) == [scans]
    assert ids(f"name={mark.upper()}*photo*", name=f"{mark.upper()}*photo*") == [photos]
    assert ids(f"name={mark}%20paper", name=f"{mark} paper") == [scans]
    assert ids(f"name={mark}%25", name=f"{mark}%") == []


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("inputs?status=39996", "`status` must be an object, not a text"),
        ("annotations?statuses=24151", "`statuses[0]` must be an object, not a text"),
        ("annotations?statuses.code=24151", "`statuses` must be a list, not an object"),
        ("models?visibility=50", "`visibility` must be an object, not a text"),
        ("inputs?status.code=INPUT_SUCESS", "which is none of its names; the closest: INPUT_SUCCESS"),
    ],
)
def test_a_filter_that_is_written_wrongly_is_refused(app: App, query: str, problem: str) -> None:
    answer = app.server.rest("GET", f"{app.path}/{query}")

    assert answer.status_code == 400
    assert answer.json()["status"]["code"] == 11100
    assert problem in answer.json()["status"]["details"]


def test_filters_by_messages_are_read_in_a_query(app: App) -> None:
    input_id = app.post(resources_pb2.Input(data=resources_pb2.Data(text=resources_pb2.Text(raw="text"))))[0]
    app.finished(input_id)

    for query in ("status.code=30000", "status.code=INPUT_SUCCESS", "status={'code': 30000}", 'status={"code": 30000}'):
        assert [item["id"] for item in app.rest("GET", f"/inputs?{query}")["inputs"]] == [input_id]
    assert app.rest("GET", "/inputs?status.code=39996")["inputs"] == []
    for code, found in ((24150, 1), (24151, 0)):
        answer = app.rest(
            "GET", f'/annotations?list_all_annotations=1&statuses={{"code": {code}, "is_deprecated": true}}'
        )
        assert len(answer["annotations"]) == found
