"""From labels to hits: how long it takes until a search ranks by a concept that was just taught."""

from __future__ import annotations

import time
from collections.abc import Callable

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data
from clarifai_grpc.grpc.api.status import status_code_pb2

from benchmarks.figures import Row, p50, show, timed
from benchmarks.queries import Searches
from benchmarks.questions import Question, kinds
from benchmarks.server import Client
from benchmarks.stage import Stage

LABELLED = 200
TARGET_S = 3.0
_ROUNDS = 5
_AT_ONCE = 100  # annotations of a call
_LOOK_S = 0.02
_UNDER_WAY = (status_code_pb2.MODEL_QUEUED_FOR_TRAINING, status_code_pb2.MODEL_TRAINING)
_CONCEPT = "taught"


def run(stage: Stage) -> None:
    """Labels inputs of an app full of areas and trains with them, several times over."""
    stage.fill()
    stage.use()
    client = stage.client()
    _label(client)
    picture = kinds(stage.models)["image"]
    searches = Searches(client)
    idle = p50([timed(searches.annotations(picture())) for _ in range(20)])
    to_hits, beside = [], []
    for number in range(_ROUNDS):
        model_id = f"taught-{number}"
        models = [resources_pb2.Model(id=model_id)]
        client.call("PostModels", service_pb2.PostModelsRequest(user_app_id=client.ids, models=models))
        seconds, searched = _train_and_search(client, searches, model_id, picture)
        to_hits.append(seconds)
        beside += searched
    show(
        f"Teaching a concept: {LABELLED} labelled inputs, {stage.areas:,} areas",
        [
            Row(
                "from PostModelVersions to the first hits ranked by it",
                f"{p50(to_hits):.2f} s",
                target=f"{TARGET_S:.0f} s",
                met=max(to_hits) < TARGET_S,
            ),
            Row("the slowest of them, the first after the start", f"{max(to_hits):.2f} s"),
            Row("a search by a picture, idle", f"{idle:.2f} ms", "1.00"),
            Row("the same while a model is trained", f"{p50(beside):.2f} ms", f"{p50(beside) / idle:.2f}"),
        ],
        caption=f"Median of {_ROUNDS} models, through the official client, which looks every {_LOOK_S * 1000:.0f} ms.",
    )


def _label(client: Client) -> None:
    """Half of the inputs have the concept, half have it not."""
    page = service_pb2.ListInputsRequest(user_app_id=client.ids, page=1, per_page=LABELLED)
    ids = [item.id for item in client.call("ListInputs", page).inputs]
    annotations = [
        Annotation(input_id=input_id, data=Data(concepts=[Concept(id=_CONCEPT, value=number % 2)]))
        for number, input_id in enumerate(ids)
    ]
    for start in range(0, LABELLED, _AT_ONCE):
        part = annotations[start : start + _AT_ONCE]
        client.call("PostAnnotations", service_pb2.PostAnnotationsRequest(user_app_id=client.ids, annotations=part))


def _train_and_search(
    client: Client, searches: Searches, model_id: str, picture: Callable[[], Question]
) -> tuple[float, list[float]]:
    """Seconds until the first hits by the concept, and the milliseconds of searches by pictures meanwhile."""
    info = resources_pb2.OutputInfo(data=Data(concepts=[Concept(id=_CONCEPT)]))
    request = service_pb2.PostModelVersionsRequest(
        user_app_id=client.ids,
        model_id=model_id,
        model_versions=[resources_pb2.ModelVersion(output_info=info)],
    )
    started = time.monotonic()
    version_id = client.call("PostModelVersions", request).model.model_version.id
    look = service_pb2.GetModelVersionRequest(user_app_id=client.ids, model_id=model_id, version_id=version_id)
    searched = []
    while (status := client.call("GetModelVersion", look).model_version.status).code in _UNDER_WAY:
        searched.append(timed(searches.annotations(picture())))
        time.sleep(_LOOK_S)
    if status.code != status_code_pb2.MODEL_TRAINED:
        raise RuntimeError(f"training ended with {status.code}: {status.details}")
    by_it = Annotation(data=Data(concepts=[Concept(id=_CONCEPT, value=1)]))
    query = resources_pb2.Query(ranks=[resources_pb2.Rank(annotation=by_it)])
    search = service_pb2.PostAnnotationsSearchesRequest(
        user_app_id=client.ids, searches=[resources_pb2.Search(query=query)]
    )
    assert client.call("PostAnnotationsSearches", search).hits
    return time.monotonic() - started, searched
