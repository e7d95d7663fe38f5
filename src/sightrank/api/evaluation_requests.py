"""What is asked for when a model version is to be evaluated: checked, and put into the queue (api-spec 5.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call
from sightrank.api.dataset_versions import find_version
from sightrank.api.datasets import find_dataset
from sightrank.api.model_drafts import id_or_new
from sightrank.api.model_records import no_model
from sightrank.errors import DuplicateKey, ModelDoesNotExist, ModelInvalidArgument, ServerBusy
from sightrank.search.contents import struct_to_json
from sightrank.store import queries
from sightrank.store.database import Connection, Database
from sightrank.store.status import MODEL_QUEUED, MODEL_TRAINED, MODEL_TRAINING

MAX_WAITING = 128
_SQL = queries.load("evaluations")


async def check_dataset(database: Database, call: Call, wanted: resources_pb2.EvalMetrics) -> None:
    """Raises ModelInvalidArgument or DoesNotExist for a dataset that a model of the app cannot be evaluated on."""
    app, dataset, dataset_id = call.require_app(), wanted.ground_truth_dataset, _dataset_id(wanted)
    if not dataset_id:
        if _dataset_version_id(wanted):
            raise ModelInvalidArgument(
                "ground_truth_dataset names a version and no dataset; send the dataset's id too."
            )
        return
    if dataset.app_id not in ("", app.app_id) or dataset.user_id not in ("", "me", app.user_id):
        raise ModelInvalidArgument(
            f"ground_truth_dataset is of {dataset.user_id}/{dataset.app_id}; a model can be evaluated on datasets"
            f" of its own app {app.user_id}/{app.app_id} only."
        )
    if _dataset_version_id(wanted):
        await find_version(database, call, dataset_id, _dataset_version_id(wanted))
    else:
        await find_dataset(database, call, dataset_id)


async def queue(connection: Connection, app: AppRef, wanted: resources_pb2.EvalMetrics) -> str:
    """Puts one evaluation into the queue, within the caller's transaction, which holds the app; returns its id.

    A version that is being trained is evaluated afterwards. One that waits already and asks for the same is as good.
    Raises ModelDoesNotExist, ModelInvalidArgument, DuplicateKey and ServerBusy.
    """
    model_id, dataset_id, request = wanted.model.id, _dataset_id(wanted), _stored(wanted)
    if wanted.model.app_id not in ("", app.app_id) or wanted.model.user_id not in ("", "me", app.user_id):
        raise ModelInvalidArgument(
            f"Model {wanted.model.user_id}/{wanted.model.app_id}/{model_id} is not of app {app.app_id!r}; a model can"
            " be evaluated in the app that it was trained in."
        )
    version_id, status, details = await _find_version(connection, app, model_id, wanted.model.model_version.id)
    if status not in (MODEL_TRAINED, MODEL_TRAINING, MODEL_QUEUED):
        raise ModelInvalidArgument(
            f"Version {version_id!r} of model {model_id!r} is not trained and cannot be evaluated. {details}".rstrip()
        )
    values = {
        "bucket": app.bucket,
        "model_id": model_id,
        "version_id": version_id,
        "dataset_id": dataset_id,
        "dataset_version_id": _dataset_version_id(wanted),
        "request": request,
    }
    if await (await connection.execute(_SQL["hold_version"], values)).fetchone() is None:
        raise ModelDoesNotExist(f"Version {version_id!r} of model {model_id!r} has just been deleted or renamed.")
    row = await (await connection.execute(_SQL["waiting"], values)).fetchone()
    waiting, same = row or (0, None)
    if same is not None and not wanted.id:
        return str(same)
    if waiting >= MAX_WAITING:
        raise ServerBusy(f"{waiting} evaluations of app {app.app_id!r} wait already; ask again when some are done.")
    evaluation_id = id_or_new(wanted.id, "eval_metrics.id")
    cursor = await connection.execute(_SQL["insert"], {**values, "id": evaluation_id})
    if not cursor.rowcount:
        raise DuplicateKey(
            f"There is already an evaluation {evaluation_id!r} in app {app.app_id!r}; choose another id."
        )
    return evaluation_id


async def _find_version(connection: Connection, app: AppRef, model_id: str, version_id: str) -> Sequence[Any]:
    """Id, status and what is said of it; '' is the latest trained one. Raises ModelDoesNotExist."""
    wanted = {name: plain_text(value, name) for name, value in (("model_id", model_id), ("version_id", version_id))}
    row = await (await connection.execute(_SQL["version"], {"bucket": app.bucket, **wanted})).fetchone()
    if row is None:
        raise no_model(app, model_id, version_id)
    return row


def name_model(message: resources_pb2.EvalMetrics, model_id: str, version_id: str) -> None:
    """Says which version is to be evaluated."""
    message.model.Clear()
    message.model.id, message.model.model_version.id = model_id, version_id


def after_training(request: service_pb2.PostModelVersionsRequest) -> resources_pb2.EvalMetrics | None:
    """The evaluation that a training asks for, of a version yet to be named; None where it asks for none."""
    wish = request.eval_info.params.fields.get("evaluate_after_training")
    if not request.HasField("eval_info") or (wish is not None and not wish.bool_value):
        return None
    wanted = resources_pb2.EvalMetrics(eval_info=request.eval_info)
    name_model(wanted, request.model_id, "")
    return wanted


def _dataset_id(wanted: resources_pb2.EvalMetrics) -> str:
    """The dataset to be judged by; older clients name it among the parameters. '' for what it was trained with."""
    return wanted.ground_truth_dataset.id or _parameter(wanted, "dataset_id")


def _dataset_version_id(wanted: resources_pb2.EvalMetrics) -> str:
    """The version of that dataset; '' for the dataset as it is when the evaluation is made."""
    return wanted.ground_truth_dataset.version.id or _parameter(wanted, "dataset_version_id")


def _parameter(wanted: resources_pb2.EvalMetrics, name: str) -> str:
    fields = wanted.eval_info.params.fields
    return fields[name].string_value if name in fields else ""


def _stored(wanted: resources_pb2.EvalMetrics) -> bytes:
    """What of a posted evaluation is shown again as it came. Raises ModelInvalidArgument."""
    struct_to_json(wanted.extended_metrics.user_metrics, ModelInvalidArgument, "extended_metrics.user_metrics")
    struct_to_json(wanted.eval_info.params, ModelInvalidArgument, "eval_info.params")
    kept = resources_pb2.EvalMetrics()
    for name in ("eval_info", "extended_metrics"):
        if wanted.HasField(name):
            getattr(kept, name).CopyFrom(getattr(wanted, name))
    return kept.SerializeToString(deterministic=True)
