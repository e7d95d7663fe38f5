"""GetResourceCounts: how much an app has of its own."""

from __future__ import annotations

from clarifai_grpc.grpc.api.resources_pb2 import Data, Dataset, Input, Model, Text, Visibility, Workflow, WorkflowNode
from tests.integration.serving import App

NOUNS = ("inputs", "datasets", "models", "workflows")


def test_everything_an_app_has_is_counted(app: App) -> None:
    app.post(*(Input(data=Data(text=Text(raw=f"text {n}"))) for n in range(4)))
    app.call("PostDatasets", datasets=[Dataset(id=f"d{n}") for n in range(3)])
    for n in range(2):
        app.call("PostModels", models=[Model(id=f"m{n}")])
    node = WorkflowNode(id="a", model=Model(id="general-image-recognition"))
    app.call("PostWorkflows", workflows=[Workflow(id="w", nodes=[node], visibility=Visibility(gettable=50))])

    over_grpc = app.call("GetResourceCounts")
    over_rest = app.rest("GET", "/resource_counts")

    assert [getattr(over_grpc, noun) for noun in NOUNS] == [4, 3, 2, 1]
    assert [int(over_rest[noun]) for noun in NOUNS] == [4, 3, 2, 1]
