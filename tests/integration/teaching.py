"""Teaching as tests see it through the official client: labelled pictures, models, trainings to wait for."""

from __future__ import annotations

from typing import Any

from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, Input, Model, ModelVersion, OutputInfo
from PIL import Image
from tests.integration.serving import App, encoded, of_bytes, wait_for

TRAINED, TRAINING, UNTRAINED, QUEUED, BROKEN, NO_DATA, NO_POSITIVES = 21100, 21101, 21102, 21103, 21106, 21110, 21111
RED, BLUE, GREEN = (200, 30, 30), (30, 40, 190), (40, 170, 60)


def plain(colour: tuple[int, int, int], seed: int) -> bytes:
    """A picture of about that colour, different for each seed."""
    shade = tuple(max(0, min(255, part + (seed * 7) % 40 - 20)) for part in colour)
    image = Image.new("RGB", (80, 60), shade)
    image.paste((seed * 11 % 256, 128, 128), (seed % 60, seed % 40, seed % 60 + 12, seed % 40 + 12))
    return encoded(image, "JPEG")


def labelled(colour: tuple[int, int, int], seed: int, **values: float) -> Input:
    """A picture that is labelled with these concepts."""
    return of_bytes(plain(colour, seed), concepts=[Concept(id=id, value=value) for id, value in values.items()])


def reds_and_blues(app: App, count: int = 4) -> list[str]:
    """Ids of indexed inputs: reds, labelled so, then blues."""
    reds = [labelled(RED, seed, red=1) for seed in range(count)]
    return app.indexed(*reds, *(labelled(BLUE, seed, blue=1) for seed in range(count)))


def output_info(*concepts: str, **config: Any) -> OutputInfo:
    return OutputInfo(
        data=Data(concepts=[Concept(id=id) for id in concepts]), output_config=resources_pb2.OutputConfig(**config)
    )


def new_model(app: App, model_id: str = "colours", **fields: Any) -> Model:
    return app.call("PostModels", models=[Model(id=model_id, **fields)]).model


def train(app: App, *concepts: str, model_id: str = "colours", **fields: Any) -> str:
    """The id of a version that is being trained."""
    version = ModelVersion(output_info=output_info(*concepts), **fields)
    return app.call("PostModelVersions", model_id=model_id, model_versions=[version]).model.model_version.id


def ended(app: App, version_id: str, model_id: str = "colours") -> ModelVersion:
    """The version once its training is over."""

    def look() -> ModelVersion | None:
        version = app.call("GetModelVersion", model_id=model_id, version_id=version_id).model_version
        return None if version.status.code in (QUEUED, TRAINING) else version

    return wait_for(f"version {version_id} to be trained", look)


def trained(app: App, *concepts: str, model_id: str = "colours", **fields: Any) -> ModelVersion:
    """A new version, trained."""
    version = ended(app, train(app, *concepts, model_id=model_id, **fields), model_id)
    assert version.status.code == TRAINED, version
    return version
