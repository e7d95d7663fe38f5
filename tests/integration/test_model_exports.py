"""Trained versions are exported: by the API, downloaded as the official SDK does, run by ONNX Runtime."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
from clarifai.client.model import Model as SdkModel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Data, Input, ModelVersion, UserAppIDSet
from tests.integration.own_models import operator
from tests.integration.serving import PAT, USER, App
from tests.integration.teaching import GREEN, RED, ended, new_model, output_info, plain, reds_and_blues, trained

SUCCESS, SCOPES, UNKNOWN_KEY, NOTHING, INVALID_REQUEST = 10000, 11007, 11008, 11101, 11102
UNKNOWN, FORBIDDEN, INVALID, EXPORTED, UNTRAINED, NEEDS = 21200, 21201, 21202, 21500, 21353, 22002
EMBEDDER, TAGGER = "general-image-embedding", "general-image-recognition"


def export(app: App, version_id: str, model_id: str = "colours", rpc: str = "GetModelVersionExport") -> Any:
    return app.ask(rpc, model_id=model_id, version_id=version_id)


def download(app: App, url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers={"Authorization": f"Key {app.key}", **headers})


def unpacked(data: bytes) -> tuple[onnxruntime.InferenceSession, dict[str, Any]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        graph, notes = (tar.extractfile(name) for name in ("model.onnx", "model.json"))
        assert graph is not None
        assert notes is not None
        return onnxruntime.InferenceSession(graph.read(), providers=["CPUExecutionProvider"]), json.load(notes)


def output(app: App, model_id: str, picture: bytes, version_id: str = "") -> Data:
    asked = Input(data=Data(image=resources_pb2.Image(base64=picture)))
    answer = app.call("PostModelOutputs", model_id=model_id, version_id=version_id, inputs=[asked])
    data: Data = answer.outputs[0].data
    return data


@pytest.mark.parametrize("exclusive", [False, True])
def test_an_exported_version_predicts_what_the_server_predicts(app: App, exclusive: bool) -> None:
    reds_and_blues(app)
    new_model(app)
    info = output_info("blue", "red", concepts_mutually_exclusive=exclusive)
    posted = app.call("PostModelVersions", model_id="colours", model_versions=[ModelVersion(output_info=info)])
    version = ended(app, posted.model.model_version.id)

    put, got = (export(app, version.id, rpc=rpc) for rpc in ("PutModelVersionExports", "GetModelVersionExport"))
    answer = download(app, got.export.url)

    assert (put.status.code, got.status.code, got.export.status.code) == (SUCCESS, SUCCESS, EXPORTED)
    assert put.export == got.export
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-tar")
    assert len(answer.content) == got.export.size
    session, notes = unpacked(answer.content)
    embedder = app.call("GetModel", model_id=EMBEDDER).model
    assert notes == {
        "model_id": "colours",
        "model_version_id": version.id,
        "embedder": {"model_id": EMBEDDER, "model_version_id": embedder.model_version.id, "dims": 256},
        "input": "vectors",
        "output": "probabilities",
        "concept_ids": ["blue", "red"],
        "exclusive": exclusive,
    }
    for picture in (plain(RED, 70), plain(GREEN, 71)):
        vector = np.array([output(app, EMBEDDER, picture).embeddings[0].vector], np.float32)
        (probabilities,) = session.run(["probabilities"], {"vectors": vector})
        said = {concept.id: concept.value for concept in output(app, "colours", picture, version.id).concepts}
        found = dict(zip(notes["concept_ids"], probabilities[0].tolist(), strict=True))
        assert found == pytest.approx(said, abs=1e-4)


def test_the_sdk_exports_to_a_folder(app: App, tmp_path: Path) -> None:
    reds_and_blues(app)
    new_model(app)
    version = trained(app, "red")
    model = SdkModel(
        model_id="colours",
        model_version={"id": version.id},
        user_id=USER,
        app_id=app.id,
        pat=PAT,
        base_url=app.server.base,
    )

    model.export(str(tmp_path / "exported"))

    _, notes = unpacked((tmp_path / "exported" / "model.tar").read_bytes())
    assert (notes["model_version_id"], notes["concept_ids"]) == (version.id, ["red"])


def test_exports_over_rest_and_in_parts(app: App) -> None:
    reds_and_blues(app)
    new_model(app)
    version = trained(app, "red")
    path = f"/models/colours/versions/{version.id}/exports"

    put, got = (app.rest(method, path) for method in ("PUT", "GET"))

    assert put["export"] == got["export"]
    assert got["export"]["status"]["code"] == EXPORTED
    url = got["export"]["url"]
    whole = download(app, url).content
    parts = [download(app, url, Range=asked) for asked in ("bytes=0-999", "bytes=1000-")]
    assert [part.status_code for part in parts] == [206, 206]
    assert b"".join(part.content for part in parts) == whole
    assert whole == download(app, url).content
    assert [part.headers["Cache-Control"] for part in parts] == ["private, no-cache"] * 2


def test_what_cannot_be_exported_says_why(app: App) -> None:
    reds_and_blues(app)
    new_model(app, "fresh")
    untrained = app.call("GetModel", model_id="fresh").model.model_version.id
    over = app.call(
        "PostModels", models=[operator("over", "concept-threshold", thresholds={"red": 0.5})]
    ).model.model_version.id
    new_model(app)
    version = trained(app, "red")

    def code(model_id: str, version_id: str) -> int:
        both = {
            int(export(app, version_id, model_id, rpc).status.code)
            for rpc in ("PutModelVersionExports", "GetModelVersionExport")
        }
        assert len(both) == 1
        return both.pop()

    assert code("fresh", untrained) == UNTRAINED
    assert code("over", over) == INVALID
    assert code("nobody", version.id) == UNKNOWN
    assert code("colours", "nothing") == UNKNOWN
    assert code("fresh", version.id) == UNKNOWN
    assert code("colours", "a\0b") == UNKNOWN
    assert code("colours", "") == INVALID_REQUEST
    assert code(TAGGER, "x") == FORBIDDEN
    message = resources_pb2.App(id=app.id, default_workflow_id="Empty")
    request = service_pb2.PatchAppsRequest(user_app_id=UserAppIDSet(user_id=USER), action="overwrite", apps=[message])
    app.stub.PatchApps(request, metadata=(("authorization", f"Key {PAT}"),))
    assert code("colours", version.id) == NEEDS


def test_an_export_is_gone_with_its_version_and_moves_with_its_model(app: App) -> None:
    reds_and_blues(app)
    new_model(app)
    version = trained(app, "red")
    url = export(app, version.id).export.url
    source = service_pb2.IdUpdateSource(id="colours", new_id="hues")

    app.call("PatchModelIds", ids=[source], action="overwrite")
    moved = export(app, version.id, "hues").export.url
    of_old, of_new = download(app, url), download(app, moved)
    app.call("DeleteModelVersion", model_id="hues", version_id=version.id)

    assert (of_old.status_code, of_new.status_code) == (404, 200)
    assert of_old.json()["status"]["code"] == UNKNOWN
    assert download(app, moved).status_code == 404


def test_who_may_not_read_exports_gets_none(app: App) -> None:
    reds_and_blues(app)
    new_model(app)
    version = trained(app, "red")
    url = export(app, version.id).export.url

    def key(*scopes: str) -> str:
        of_app = resources_pb2.App(id=app.id, user_id=USER)
        request = service_pb2.PostKeysRequest(
            user_app_id=UserAppIDSet(user_id=USER), keys=[resources_pb2.Key(scopes=scopes, apps=[of_app])]
        )
        answer = app.stub.PostKeys(request, metadata=(("authorization", f"Key {PAT}"),))
        assert answer.status.code == SUCCESS, answer
        return str(answer.keys[0].id)

    reading = key("Apps_Get", "Models_Get")
    exporting = key("Apps_Get", "Models_Get", "ModelExports_Get")
    answers = {
        "none": httpx.get(url),
        "wrong": httpx.get(url, headers={"Authorization": "Key nobody"}),
        "reading": httpx.get(url, headers={"Authorization": f"Key {reading}"}),
        "exporting": httpx.get(url, headers={"Authorization": f"Key {exporting}"}),
    }

    codes = {name: answer.json()["status"]["code"] for name, answer in answers.items() if name != "exporting"}
    assert codes == {"none": NOTHING, "wrong": UNKNOWN_KEY, "reading": SCOPES}
    assert answers["exporting"].status_code == 200
    put = App(server=app.server, stub=app.stub, id=app.id, key=exporting)
    assert export(put, version.id, rpc="PutModelVersionExports").status.code == SCOPES
    assert export(put, version.id).status.code == SUCCESS
