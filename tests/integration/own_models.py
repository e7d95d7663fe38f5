"""Models of apps for tests of predictions and workflows: pictures of two colours, and what tells them apart."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Data, Model, OutputConfig, OutputInfo
from google.protobuf.struct_pb2 import Struct
from PIL import Image
from tests.integration.serving import App, of_bytes, wait_for

TRAINED = 21100
RED, BLUE = (200, 40, 40), (40, 60, 200)


def coloured(colour: tuple[int, int, int], seed: int) -> bytes:
    """A picture of one colour, a little different for each seed."""
    random = np.random.default_rng(seed)
    fields = np.clip(np.array(colour) + random.integers(-30, 30, size=(4, 6, 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(fields).resize((96, 72), Image.Resampling.BICUBIC).save(file, "JPEG", quality=92)
    return file.getvalue()


def teach_colours(app: App, count: int = 4) -> list[str]:
    """Inputs labelled "warm" and "cold", both concepts of the app; their ids."""
    inputs = [
        of_bytes(coloured(colour, seed), concepts=[Concept(id=concept_id, value=1)])
        for colour, concept_id in ((RED, "warm"), (BLUE, "cold"))
        for seed in range(count)
    ]
    return app.indexed(*inputs)


def operator(model_id: str, type_id: str, *, thresholds: dict[str, float] | None = None, **params: Any) -> Model:
    """A model that is no network."""
    info = OutputInfo(data=Data(concepts=[Concept(id=id, value=value) for id, value in (thresholds or {}).items()]))
    if params:
        info.params.CopyFrom(Struct())
        info.params.update(params)
    return Model(id=model_id, model_type_id=type_id, output_info=info)


def classifier(model_id: str, *concept_ids: str, **config: Any) -> Model:
    """A model to be trained."""
    return Model(
        id=model_id,
        model_type_id="embedding-classifier",
        output_info=OutputInfo(
            data=Data(concepts=[Concept(id=id, value=1) for id in concept_ids]), output_config=OutputConfig(**config)
        ),
    )


def train(app: App, model_id: str, **version: Any) -> str:
    """Trains a version; its id."""
    answer = app.call("PostModelVersions", model_id=model_id, model_versions=[resources_pb2.ModelVersion(**version)])
    version_id = str(answer.model.model_version.id)

    def trained() -> bool:
        found = app.call("GetModelVersion", model_id=model_id, version_id=version_id).model_version
        assert found.status.code in (21100, 21101, 21103), found.status
        return bool(found.status.code == TRAINED)

    wait_for(f"model {model_id} to be trained", trained)
    return version_id
