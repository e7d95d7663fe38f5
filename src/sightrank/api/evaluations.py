"""Evaluating model versions: asking for it, and reading what was measured (api-spec 5.5)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from psycopg import sql

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.datasets import public_only
from sightrank.api.evaluation_messages import STATUS_TEXTS, Part, fill_metrics, fill_summary, fill_test_set
from sightrank.api.evaluation_requests import check_dataset, name_model, queue
from sightrank.api.model_records import ModelRecords, no_model, version_message
from sightrank.api.pages import Page, list_page
from sightrank.api.records import InputRow, Records
from sightrank.errors import DoesNotExist, InvalidRequest, quoted
from sightrank.ingest.rows import hold_app
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries
from sightrank.store.database import Database, number_array
from sightrank.teach.evaluation_queue import State
from sightrank.vision.metrics import Metrics

MAX_POSTED = 128
_FAILED = (21310, 21319)  # failures lie between these, both included
_SQL = queries.load("evaluations")
_CONCEPTS = queries.load("concepts")
_NEWEST = sql.SQL("e.created_at DESC, e.id DESC")

#: What ListEvaluations sorts by. All evaluations of a list are of one app.
_SORTS: Mapping[str, str] = {
    "sort_by_roc_auc": "(e.summary ->> 'roc_auc')::float8",
    "sort_by_f1": "(e.summary ->> 'f1')::float8",
    "sort_by_created_at": "e.created_at",
    "sort_by_mean_avg_precision": "(e.summary ->> 'average_precision')::float8",
    "sort_by_precision": "(e.summary ->> 'precision')::float8",
    "sort_by_recall": "(e.summary ->> 'recall')::float8",
    "sort_by_model_id": "e.model_id",
    "sort_by_eval_dataset_id": "e.dataset_id",
    "sort_by_train_dataset_id": "coalesce(v.training ->> 'dataset_id', '')",
}


class _Row(NamedTuple):
    """Columns of the statement ``read``."""

    id: str
    model_id: str
    model_version_id: str
    model_name: str
    model_type_id: str
    dataset_id: str
    dataset_version_id: str
    status: int
    status_details: str
    request: bytes
    summary: Mapping[str, Any] | None


class Evaluations:
    """The evaluation rpcs, and the metrics that answers about model versions carry.

    ``wake`` is set when there is something to evaluate.
    """

    def __init__(
        self,
        database: Database,
        book: ConceptBook,
        records: Records,
        model_records: ModelRecords,
        wake: asyncio.Event,
    ) -> None:
        self._database = database
        self._book = book
        self._records = records
        self._model_records = model_records
        self._wake = wake

    def handlers(self) -> Handlers:
        return {
            "PostModelVersionMetrics": self.post_metrics,
            "GetModelVersionMetrics": self.get_metrics,
            "PostModelVersionEvaluations": self.post_of_version,
            "ListModelVersionEvaluations": self.list_of_version,
            "GetModelVersionEvaluation": self.get_of_version,
            "PostEvaluations": self.post,
            "GetEvaluation": self.get,
            "ListEvaluations": self.list,
        }

    # Asking ----------------------------------------------------------------------------------------------------------

    async def post_metrics(
        self, call: Call, request: service_pb2.PostModelVersionMetricsRequest
    ) -> service_pb2.SingleModelVersionResponse:
        """Queues one evaluation. Asking again while it waits changes nothing."""
        if request.HasField("test_search"):
            raise InvalidRequest(
                "test_search is not built: put the inputs that it finds into a dataset (PostDatasetInputs takes a"
                " search) and name that by PostEvaluations' ground_truth_dataset."
            )
        wanted = resources_pb2.EvalMetrics()
        if request.HasField("eval_info"):
            wanted.eval_info.CopyFrom(request.eval_info)
        name_model(wanted, request.model_id, request.version_id)
        await self._ask(call, [wanted])
        version = await self._version(call, request.model_id, request.version_id)
        await self.fill_latest(call.require_app(), [version])
        return service_pb2.SingleModelVersionResponse(model_version=version)

    async def post_of_version(
        self, call: Call, request: service_pb2.PostModelVersionEvaluationsRequest
    ) -> service_pb2.MultiEvalMetricsResponse:
        """As ``post``, all of one version."""
        wanted = []
        for item in request.eval_metrics:
            copy = resources_pb2.EvalMetrics()
            copy.CopyFrom(item)
            name_model(copy, request.model_id, request.model_version_id)
            wanted.append(copy)
        return await self._posted(call, wanted)

    async def post(
        self, call: Call, request: service_pb2.PostEvaluationsRequest
    ) -> service_pb2.MultiEvalMetricsResponse:
        """Queues all of the evaluations, or none when one cannot be made."""
        return await self._posted(call, list(request.eval_metrics))

    async def _posted(
        self, call: Call, wanted: Sequence[resources_pb2.EvalMetrics]
    ) -> service_pb2.MultiEvalMetricsResponse:
        if not 1 <= len(wanted) <= MAX_POSTED:
            raise InvalidRequest(f"eval_metrics has {len(wanted)} entries; 1 to {MAX_POSTED} can be posted at once.")
        app = call.require_app()
        ids = await self._ask(call, wanted)
        rows = {row.id: row for row in await self._rows(app, sql.SQL("e.id = ANY({})").format(ids))}
        found = [rows[id] for id in ids if id in rows]  # one may be deleted by now
        return await self._listed(app, found)

    async def _ask(self, call: Call, wanted: Sequence[resources_pb2.EvalMetrics]) -> list[str]:
        """Ids of the evaluations, all of them in the queue."""
        for item in wanted:
            await check_dataset(self._database, call, item)
        app = call.require_app()
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            ids = [await queue(connection, app, item) for item in wanted]
        self._wake.set()
        return ids

    # Reading ---------------------------------------------------------------------------------------------------------

    async def get_metrics(
        self, call: Call, request: service_pb2.GetModelVersionMetricsRequest
    ) -> service_pb2.SingleModelVersionResponse:
        """Those of the evaluation that was asked for last; 21302 where none was."""
        version = await self._version(call, request.model_id, request.version_id)
        await self.fill_latest(call.require_app(), [version], request.fields)
        return service_pb2.SingleModelVersionResponse(model_version=version)

    async def get(self, call: Call, request: service_pb2.GetEvaluationRequest) -> service_pb2.SingleEvalMetricsResponse:
        app = call.require_app()
        row = await self._row(app, request.evaluation_id)
        return service_pb2.SingleEvalMetricsResponse(eval_metrics=await self._message(app, row, request.fields))

    async def get_of_version(
        self, call: Call, request: service_pb2.GetModelVersionEvaluationRequest
    ) -> service_pb2.SingleEvalMetricsResponse:
        app = call.require_app()
        row = await self._row(app, request.evaluation_id)
        if (row.model_id, row.model_version_id) != (request.model_id, request.model_version_id):
            raise DoesNotExist(
                f"Evaluation {row.id!r} is one of version {row.model_version_id!r} of model {row.model_id!r}."
            )
        return service_pb2.SingleEvalMetricsResponse(eval_metrics=await self._message(app, row, request.fields))

    async def list_of_version(
        self, call: Call, request: service_pb2.ListModelVersionEvaluationsRequest
    ) -> service_pb2.MultiEvalMetricsResponse:
        """Newest first, failed ones too."""
        app = call.require_app()
        version = await self._version(call, request.model_id, request.model_version_id)
        condition = sql.SQL("e.model_version_id = {}").format(version.id)
        return await self._listed(app, await self._rows(app, condition, page=list_page(request)))

    async def list(
        self, call: Call, request: service_pb2.ListEvaluationsRequest
    ) -> service_pb2.MultiEvalMetricsResponse:
        """Newest first unless told otherwise; failed ones only when asked for."""
        app = call.require_app()
        rows = await self._rows(app, _condition(request), order=_order(request), page=list_page(request))
        return await self._listed(app, rows)

    async def fill_latest(
        self,
        app: AppRef,
        versions: Sequence[resources_pb2.ModelVersion],
        fields: resources_pb2.FieldsValue | None = None,
    ) -> None:
        """Puts the metrics of the latest evaluation into messages of the app's model versions."""
        parameters = {"bucket": app.bucket, "version_ids": [version.id for version in versions]}
        ids = [id for (id,) in await self._database.rows(_SQL["latest"], parameters)]
        rows = await self._rows(app, sql.SQL("e.id = ANY({})").format(ids)) if ids else []
        found = {row.model_version_id: row for row in rows}
        for version in versions:
            if version.id in found:
                message = await self._message(app, found[version.id], fields or resources_pb2.FieldsValue())
                version.metrics.CopyFrom(message)
            else:
                _fill_status(version.metrics, State.NOT_EVALUATED, "")

    async def _version(self, call: Call, model_id: str, version_id: str) -> resources_pb2.ModelVersion:
        app = call.require_app()
        row = await self._model_records.find(
            app, model_id, version_id, public_only=public_only(call), trained_first=True
        )
        if row is None or row.version is None:
            raise no_model(app, model_id, version_id)
        names = await self._model_records.names(app, row.version.concept_ids)
        return version_message(app.user_id, app.app_id, row.version, names)

    async def _row(self, app: AppRef, evaluation_id: str) -> _Row:
        wanted = plain_text(evaluation_id, "evaluation_id")
        rows = await self._rows(app, sql.SQL("e.id = {}").format(wanted))
        if not rows:
            raise DoesNotExist(f"There is no evaluation {quoted(wanted)} in app {app.app_id!r}.")
        return rows[0]

    async def _rows(
        self, app: AppRef, condition: sql.Composable, *, order: sql.Composable = _NEWEST, page: Page | None = None
    ) -> Sequence[_Row]:
        statement = sql.SQL(_SQL["read"]).format(bucket=app.bucket, chosen=condition, sorting=order)
        rows = await self._database.rows(page.limit(statement) if page is not None else statement)
        return [_Row(*row) for row in rows]

    async def _listed(self, app: AppRef, rows: Sequence[_Row]) -> service_pb2.MultiEvalMetricsResponse:
        nothing = resources_pb2.FieldsValue()
        return service_pb2.MultiEvalMetricsResponse(
            eval_metrics=[await self._message(app, row, nothing) for row in rows]
        )

    async def _message(self, app: AppRef, row: _Row, fields: resources_pb2.FieldsValue) -> resources_pb2.EvalMetrics:
        message = resources_pb2.EvalMetrics.FromString(row.request)
        message.id, message.app_id, message.user_id = row.id, app.app_id, app.user_id
        _fill_status(message, row.status, row.status_details)
        model = message.model
        model.id, model.name, model.model_type_id = row.model_id, row.model_name, row.model_type_id
        model.app_id, model.user_id, model.model_version.id = app.app_id, app.user_id, row.model_version_id
        if row.dataset_id:
            dataset = message.ground_truth_dataset
            dataset.id, dataset.app_id, dataset.user_id = row.dataset_id, app.app_id, app.user_id
            if row.dataset_version_id:
                dataset.version.id = row.dataset_version_id
        if row.summary is not None:
            fill_summary(message, row.summary)
            if fields.ListFields():
                await self._fill(app, message, fields)
        return message

    async def _fill(self, app: AppRef, message: resources_pb2.EvalMetrics, fields: resources_pb2.FieldsValue) -> None:
        found = await self._database.row(_SQL["metrics"], {"bucket": app.bucket, "id": message.id})
        if found is None:
            raise DoesNotExist(f"Evaluation {message.id!r} has just been deleted.")
        metrics = await asyncio.to_thread(Metrics.load, found[0])
        concepts = await self._concepts(app, metrics.concept_ids)
        await asyncio.to_thread(fill_metrics, message, metrics, fields, concepts)
        if fields.test_set:
            numbers = number_array(sorted(set(metrics.test_input_numbers.tolist())))
            rows = await self._database.rows(_SQL["inputs"], {"bucket": app.bucket, "numbers": numbers})
            known = [InputRow(*row) for row in rows]
            inputs = {row.number: item for row, item in zip(known, await self._records.inputs(app, known), strict=True)}
            areas = {"bucket": app.bucket, "area_ids": number_array(metrics.test_area_ids.tolist())}
            parts = {part.area_id: part for part in map(Part._make, await self._database.rows(_SQL["parts"], areas))}
            await asyncio.to_thread(fill_test_set, message, metrics, concepts, inputs, parts)

    async def _concepts(self, app: AppRef, ids: Sequence[str]) -> Sequence[resources_pb2.Concept]:
        own: dict[str, str] = dict(
            await self._database.rows(_CONCEPTS["names"], {"bucket": app.bucket, "ids": list(ids)})
        )
        names = {id: own.get(id) or self._book.vocabulary.name(id) or id for id in ids}
        return [resources_pb2.Concept(id=id, name=names[id], app_id=app.app_id, user_id=app.user_id) for id in ids]


def _condition(request: service_pb2.ListEvaluationsRequest) -> sql.Composable:
    conditions: list[sql.Composable] = [sql.SQL("true")]
    if not request.show_failed_metrics:
        conditions.append(sql.SQL("e.status NOT BETWEEN {} AND {}").format(*_FAILED))
    if request.model_type_id:
        conditions.append(sql.SQL("m.model_type_id = {}").format(request.model_type_id))
    if request.eval_dataset_ids:
        conditions.append(sql.SQL("e.dataset_id = ANY({})").format(list(request.eval_dataset_ids)))
    if request.train_dataset_ids:
        wanted = list(request.train_dataset_ids)
        conditions.append(sql.SQL("v.training ->> 'dataset_id' = ANY({})").format(wanted))
    if request.concept_ids:
        conditions.append(sql.SQL("v.concept_ids && {}::text[]").format(list(request.concept_ids)))
    return sql.SQL(" AND ").join(conditions)


def _order(request: service_pb2.ListEvaluationsRequest) -> sql.Composable:
    """Evaluations without the number that is sorted by come last in either direction."""
    chosen = request.WhichOneof("sort_by") or "sort_by_created_at"
    column = sql.SQL(_SORTS[chosen] if getattr(request, chosen, False) and chosen in _SORTS else "e.created_at")
    direction = sql.SQL("ASC" if request.sort_ascending else "DESC")
    return sql.SQL("{column} {direction} NULLS LAST, e.created_at {direction}, e.id {direction}").format(
        column=column, direction=direction
    )


def _fill_status(message: resources_pb2.EvalMetrics, code: int, details: str) -> None:
    message.status.code = code
    message.status.description = STATUS_TEXTS.get(code, STATUS_TEXTS[State.FAILED])
    message.status.details = details
