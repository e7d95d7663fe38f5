"""What goes wrong is answered with its own status code, a text that says what to do, and nothing half-written."""

from __future__ import annotations

import json
from typing import Any

import grpc
import httpx
import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, Image, Input, UserAppIDSet
from clarifai_grpc.grpc.api.status import status_code_pb2 as codes
from tests.contract.clients import App, by_concept, by_image, by_input, key, of_bytes, of_url
from tests.contract.conftest import Library
from tests.contract.pictures import Picture, PictureServer
from tests.contract.serving import Server
from tests.ports import free_ports

INVALID_KEY = "Invalid API key or Invalid API key/application pair"


def expect(answer: Any, code: int, about: str = "") -> None:
    """The status code, with details that say more than the description does."""
    status = answer.status
    assert status.code == code, status
    assert status.details
    assert status.details != status.description
    assert about.lower() in status.details.lower(), status.details


def nothing_was_written(app: App) -> bool:
    return not app.call("ListInputs").inputs and not app.call("ListConcepts").concepts


# Keys and apps -------------------------------------------------------------------------------------------------------


def test_a_wrong_key(stub: service_pb2_grpc.V2Stub) -> None:
    answer = stub.ListModels(service_pb2.ListModelsRequest(), metadata=key("SOME_INVALID_KEY"))
    assert answer.status.code == codes.CONN_KEY_INVALID
    assert answer.status.description == INVALID_KEY


def test_no_key(grpc_stub: service_pb2_grpc.V2Stub, server: Server) -> None:
    expect(grpc_stub.ListInputs(service_pb2.ListInputsRequest()), codes.CONN_INVALID_REQUEST, "Authorization: Key")
    answer = httpx.get(f"{server.base}/v2/inputs", trust_env=False)
    assert (answer.status_code, answer.json()["status"]["code"]) == (401, 11102)


def test_a_wrong_key_over_http(server: Server) -> None:
    answer = httpx.get(f"{server.base}/v2/inputs", headers={"Authorization": "Key wrong"}, trust_env=False)
    assert answer.status_code == 401
    assert answer.json()["status"]["description"] == INVALID_KEY


def test_an_unknown_app(stub: service_pb2_grpc.V2Stub, server: Server) -> None:
    nowhere = UserAppIDSet(user_id=server.user_id, app_id="no-such-app")
    app = App(stub=stub, metadata=key(server.pat), user_app_id=nowhere)
    expect(app.ask("PostAnnotationsSearches"), codes.CONN_DOES_NOT_EXIST, "no-such-app")


def test_a_token_without_an_app(stub: service_pb2_grpc.V2Stub, server: Server) -> None:
    app = App(stub=stub, metadata=key(server.pat), user_app_id=None)
    expect(app.ask("PostAnnotationsSearches"), codes.CONN_INVALID_REQUEST, "app_id")


def test_an_app_key_for_another_app(app: App, server: Server) -> None:
    stranger = App(stub=app.stub, metadata=key(server.api_key), user_app_id=app.user_app_id)
    answer = stranger.ask("ListInputs")
    assert answer.status.code == codes.CONN_KEY_INVALID
    assert answer.status.description == INVALID_KEY


# Requests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        '{"searches": [{"query": ',
        '{"searches": "all"}',
        '{"searches": [{"query": {"ranks": [{"annotation": 3}]}}]}',
        "[]",
    ],
    ids=["cut", "text-for-list", "number-for-object", "list"],
)
def test_a_malformed_body(server: Server, body: str) -> None:
    headers = {"Authorization": f"Key {server.api_key}"}
    answer = httpx.post(f"{server.base}/v2/annotations/searches", headers=headers, content=body, trust_env=False)
    status = answer.json()["status"]
    assert (answer.status_code, status["code"], status["description"]) == (400, 11100, "Bad request format")
    assert status["details"]


def test_every_answer_has_a_request_id(server: Server) -> None:
    headers = {"Authorization": "Key wrong", "X-Clarifai-Request-ID-Prefix": "contract"}
    first, second = (httpx.get(f"{server.base}/v2/inputs", headers=headers, trust_env=False).json() for _ in range(2))
    assert first["status"]["req_id"].startswith("contract-")
    assert first["status"]["req_id"] != second["status"]["req_id"]


def test_an_unknown_path_and_a_wrong_method(server: Server) -> None:
    headers = {"Authorization": f"Key {server.api_key}"}
    unknown = httpx.get(f"{server.base}/v2/no/such/thing", headers=headers, trust_env=False)
    assert (unknown.status_code, unknown.json()["status"]["code"]) == (404, 11101)
    wrong = httpx.put(f"{server.base}/v2/annotations/searches", headers=headers, content="{}", trust_env=False)
    assert (wrong.status_code, wrong.json()["status"]["code"]) == (405, 11103)


def test_an_rpc_that_is_not_built(grpc_stub: service_pb2_grpc.V2Stub, server: Server) -> None:
    """In-band, like every error: the gRPC call succeeds."""
    user_app_id = UserAppIDSet(user_id=server.user_id, app_id=server.app_id)
    request = service_pb2.ListNextTaskAssignmentsRequest(user_app_id=user_app_id, task_id="task")
    try:
        answer = grpc_stub.ListNextTaskAssignments(request, metadata=key(server.pat))
    except grpc.RpcError as error:  # pragma: no cover
        pytest.fail(f"the call itself failed: {error}")
    assert answer.status.code == codes.NOT_IMPLEMENTED


# Inputs --------------------------------------------------------------------------------------------------------------


def test_a_129th_input(app: App, site: PictureServer, photos: list[Picture]) -> None:
    answer = app.ask("PostInputs", inputs=[of_url(site, photos[0], id=f"input-{n}") for n in range(129)])
    expect(answer, codes.INPUT_INVALID_REQUEST, "128")
    assert nothing_was_written(app)


def test_no_input(app: App) -> None:
    answer = app.ask("PostInputs", inputs=[])
    assert answer.status.code in (codes.CONN_INVALID_REQUEST, codes.INPUT_INVALID_REQUEST)
    assert answer.status.details


def test_an_input_without_data(app: App) -> None:
    answer = app.ask("PostInputs", inputs=[Input(id="empty")])
    assert answer.status.code == codes.FAILURE
    expect(answer.inputs[0], codes.INPUT_INVALID_ARGUMENT)
    assert nothing_was_written(app)


def test_an_empty_concept_on_an_input(app: App, photos: list[Picture]) -> None:
    answer = app.ask("PostInputs", inputs=[of_bytes(photos[0], concepts=[Concept(value=1)])])
    assert answer.status.code == codes.FAILURE
    expect(answer.inputs[0], codes.CONCEPTS_INVALID_REQUEST, "concept")
    assert nothing_was_written(app)


def test_one_bad_input_among_good_ones(app: App, photos: list[Picture]) -> None:
    inputs = [of_bytes(photos[0], id="good"), Input(id="bad"), of_bytes(photos[1], id="good-too")]
    answer = app.ask("PostInputs", inputs=inputs)
    assert answer.status.code == codes.MIXED_STATUS
    assert [item.status.code for item in answer.inputs] == [
        codes.INPUT_DOWNLOAD_PENDING,
        codes.INPUT_INVALID_ARGUMENT,
        codes.INPUT_DOWNLOAD_PENDING,
    ]
    assert {item.id for item in app.call("ListInputs").inputs} == {"good", "good-too"}


def test_an_id_twice(app: App, photos: list[Picture]) -> None:
    app.post([of_bytes(photos[0], id="one")])
    answer = app.ask("PostInputs", inputs=[of_bytes(photos[1], id="one")])
    assert answer.inputs[0].status.code == codes.INPUT_INVALID_ARGUMENT
    assert answer.inputs[0].status.details == "Input has a duplicate ID."


def test_a_url_twice(app: App, site: PictureServer, photos: list[Picture]) -> None:
    app.post([of_url(site, photos[0])])
    answer = app.ask("PostInputs", inputs=[of_url(site, photos[0])])
    assert answer.inputs[0].status.code == codes.INPUT_DUPLICATE
    assert answer.inputs[0].status.description.startswith("Duplicate URL in your application.")
    again = Input(data=Data(image=Image(url=site.url(photos[0]), allow_duplicate_url=True)))
    app.post([again])


def test_what_is_no_picture(app: App, site: PictureServer, photos: list[Picture]) -> None:
    broken = {
        "text": Image(base64=b"This is not a picture."),
        "text-by-url": Image(url=f"{site.base}/text.txt"),
        "cut-short": Image(base64=photos[0].data[: len(photos[0].data) // 2]),
        "missing": Image(url=f"{site.base}/missing.jpg"),
    }
    app.call("PostInputs", inputs=[Input(id=name, data=Data(image=image)) for name, image in broken.items()])
    for name in broken:
        expect(app.finished(name), codes.INPUT_DOWNLOAD_FAILED)
    assert app.rank(by_concept(id="people", value=1)) == []


def test_a_url_that_nobody_answers(app: App) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}/photo.jpg"
    app.call("PostInputs", inputs=[Input(id="unreachable", data=Data(image=Image(url=url)))])
    expect(app.finished("unreachable"), codes.INPUT_CONNECTION_FAILED, url)


def test_a_private_address_is_not_fetched(app: App) -> None:
    """FETCH_ALLOW names 127.0.0.0/8 only: no other private address becomes reachable by it."""
    url = "http://169.254.169.254/latest/meta-data/"
    app.call("PostInputs", inputs=[Input(id="private", data=Data(image=Image(url=url)))])
    failed = app.finished("private")
    assert failed.status.code == codes.INPUT_INVALID_URL
    assert failed.status.details


def test_an_unknown_input(app: App) -> None:
    expect(app.ask("GetInput", input_id="nobody"), codes.CONN_DOES_NOT_EXIST, "nobody")


# Searches ------------------------------------------------------------------------------------------------------------


def test_ranks_that_cannot_be(app: App, library: Library) -> None:
    vector = resources_pb2.Embedding(vector=[1.0, 0.0], num_dimensions=2)
    data = Data(embeddings=[vector])
    impossible = {
        "neither id nor name": by_concept(value=1),
        "never-heard-of": by_concept(id="never-heard-of", value=1),
        "2 numbers": resources_pb2.Rank(annotation=resources_pb2.Annotation(data=data)),
        "between 0": by_concept(id="dog", value=7),
    }
    for about, rank in impossible.items():
        searches = [resources_pb2.Search(query=resources_pb2.Query(ranks=[rank]))]
        answer = app.ask("PostAnnotationsSearches", searches=searches)
        assert answer.status.code == codes.SEARCH_INVALID_REQUEST, (about, answer.status)
        assert answer.status.details


def test_a_search_by_what_is_no_picture(app: App, site: PictureServer) -> None:
    for image in ({"base64": b"This is not a picture."}, {"url": f"{site.base}/text.txt"}):
        searches = [resources_pb2.Search(query=resources_pb2.Query(ranks=[by_image(**image)]))]
        answer = app.ask("PostAnnotationsSearches", searches=searches)
        assert answer.status.code in (codes.SEARCH_PREDICTION_FAILURE, codes.INPUT_DOWNLOAD_FAILED), answer.status
        assert answer.status.details


def test_a_search_by_an_unknown_input(app: App) -> None:
    searches = [resources_pb2.Search(query=resources_pb2.Query(ranks=[by_input("nobody")]))]
    expect(app.ask("PostAnnotationsSearches", searches=searches), codes.CONN_DOES_NOT_EXIST, "nobody")


def test_too_deep_a_page(reader: App) -> None:
    """The SDK looks for this very phrase."""
    pagination = service_pb2.Pagination(page=11, per_page=1000)
    searches = [resources_pb2.Search(query=resources_pb2.Query(ranks=[by_concept(id="people", value=1)]))]
    answer = reader.ask("PostAnnotationsSearches", searches=searches, pagination=pagination)
    expect(answer, codes.SEARCH_INVALID_REQUEST, "page * perPage cannot exceed")


def test_errors_over_rest_are_objects_with_an_http_status(server: Server, library: Library) -> None:
    headers = {"Authorization": f"Key {server.api_key}"}
    body = {"searches": [{"query": {"ranks": [{"annotation": {"data": {"concepts": [{}]}}}]}}]}
    url = f"{server.base}/v2/annotations/searches"
    answer = httpx.post(url, headers=headers, content=json.dumps(body), trust_env=False)
    assert (answer.status_code, answer.json()["status"]["code"]) == (400, 40002)
