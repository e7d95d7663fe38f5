"""Programs in the documentation do what their pages say, also one after the other in the same app."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from tests.contract.clients import SUCCESS, App
from tests.contract.conftest import NewApp
from tests.contract.pictures import Picture
from tests.contract.serving import Server

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def grpc_app(grpc_stub: service_pb2_grpc.V2Stub, new_app: NewApp) -> App:
    return new_app(grpc_stub)


def programs(page: str, server: Server, app: App) -> Sequence[str]:
    """The Python programs of a page, for this server, this app, and a `picture`."""
    assert app.user_app_id is not None
    changes = {
        "port=18080": f"port={server.grpc_port}",
        "YOUR_API_KEY": app_key(app),
        "YOUR_PAT": server.pat,
        'user_id="me", app_id="photos"': f'user_id="me", app_id="{app.user_app_id.app_id}"',
        'App(id="photos"': f'App(id="{app.user_app_id.app_id}"',
        'url="https://…"': "base64=picture",
        'open("beach.jpg", "rb").read()': "picture",
    }
    text = (DOCS / page).read_text()
    for written, meant in changes.items():
        text = text.replace(written, meant)
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def app_key(app: App) -> str:
    assert app.user_app_id is not None
    wanted = resources_pb2.Key(
        description="pages", scopes=["All"], apps=[resources_pb2.App(id=app.user_app_id.app_id, user_id="me")]
    )
    request = service_pb2.PostKeysRequest(user_app_id=resources_pb2.UserAppIDSet(user_id="me"), keys=[wanted])
    answer = app.stub.PostKeys(request, metadata=app.metadata)
    assert answer.status.code == SUCCESS, answer
    return str(answer.keys[0].id)


def test_workflows_are_made_and_annotate_in_one_app_and_anew(
    server: Server, grpc_app: App, photos: list[Picture]
) -> None:
    workflows, *_ = programs("workflows.md", server, grpc_app)
    annotating, start_over, *_ = programs("auto-annotation.md", server, grpc_app)
    names: dict[str, Any] = {"picture": photos[0].data}

    exec(workflows, {**names})
    exec(annotating, names)
    exec(start_over, names)
    assert not {model.id for model in grpc_app.call("ListModels").models} & {"to-mine", "sure", "doubtful"}
    exec(annotating[annotating.index("# 2. ") :], names)

    shown = [workflow.id for workflow in grpc_app.call("ListWorkflows").workflows if workflow.app_id != "main"]
    assert sorted(shown) == ["auto-annotation", "people-and-faces"]
    assert grpc_app.call("GetApp").app.default_workflow_id == "auto-annotation"
