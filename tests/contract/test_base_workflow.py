"""Changing an app's base workflow as Clarifai's own clients do it, on both channels of the Python one."""

from __future__ import annotations

from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.status import status_code_pb2 as codes
from tests.contract.clients import App, by_image, of_bytes
from tests.contract.pictures import Picture
from tests.waiting import wait_for


def test_an_app_is_emptied_and_indexed_again(app: App, photos: list[Picture]) -> None:
    ids = app.post([of_bytes(photo) for photo in photos[:2]])
    before = [(hit.input.id, round(hit.score, 4)) for hit in app.rank(by_image(base64=photos[0].data))]

    def patch(workflow_id: str) -> resources_pb2.App:
        workflow = resources_pb2.Workflow(id=workflow_id, app_id="main", user_id="clarifai")
        assert app.user_app_id is not None
        wanted = resources_pb2.App(id=app.user_app_id.app_id, default_workflow=workflow)
        (patched,) = app.call("PatchApps", apps=[wanted], action="overwrite", reindex=True).apps
        return patched

    emptied = patch("Empty")
    search = resources_pb2.Search(query=resources_pb2.Query(ranks=[by_image(base64=photos[0].data)]))
    refused = app.ask("PostAnnotationsSearches", searches=[search])
    asked = patch("General")
    wait_for("the app to have General", lambda: app.call("GetApp").app.default_workflow_id == "General", seconds=60)

    assert emptied.default_workflow.id == "Empty"
    assert asked.default_workflow.id == "Empty"
    assert refused.status.code == codes.SEARCH_INVALID_REQUEST
    assert [(hit.input.id, round(hit.score, 4)) for hit in app.rank(by_image(base64=photos[0].data))] == before
    assert [app.call("GetInput", input_id=name).input.status.code for name in ids] == [
        codes.INPUT_DOWNLOAD_SUCCESS,
        codes.INPUT_DOWNLOAD_SUCCESS,
    ]
    assert app.call("GetInputCount").counts.processed == 2
