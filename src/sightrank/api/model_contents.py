"""What models of apps are about: their concepts, the inputs they learn from, and how long learning takes."""

from __future__ import annotations

from collections.abc import Sequence

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from google.protobuf.duration_pb2 import Duration

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.concepts import concept_proto
from sightrank.api.datasets import public_only
from sightrank.api.model_records import ModelRecords, ModelRow
from sightrank.api.models import public_concept
from sightrank.api.pages import list_page
from sightrank.api.records import InputRow, Records
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.vision.vocabulary import Term

_SQL = queries.load("models")
_INPUTS = queries.load("inputs")
# Measured: reading the examples takes a quarter of a second, and each concept a few microseconds for each input.
_START_S = 0.5
_LABEL_S = 2e-5


class ModelContents:
    """ListModelConcepts, ListModelInputs and PostModelVersionsTrainingTimeEstimate."""

    def __init__(self, database: Database, catalogue: Catalogue, models: ModelRecords, records: Records) -> None:
        self._database = database
        self._catalogue = catalogue
        self._models = models
        self._records = records

    def handlers(self) -> Handlers:
        return {
            "ListModelConcepts": self.concepts,
            "ListModelInputs": self.inputs,
            "PostModelVersionsTrainingTimeEstimate": self.estimate,
        }

    async def concepts(
        self, call: Call, request: service_pb2.ListModelConceptsRequest
    ) -> service_pb2.MultiConceptResponse:
        """Those of the version, in its order; ``search`` is a part of an id or a name."""
        app, page = call.require_app(), list_page(request)
        own = await self._own(call, request.model_id, request.version_id)
        if own is None:
            vocabulary = self._catalogue.model(request.model_id, request.version_id).concepts
            terms: Sequence[Term] = vocabulary.search(request.search) if request.search else list(vocabulary)
            return service_pb2.MultiConceptResponse(concepts=map(public_concept, page.of(terms)))
        parameters = {
            "bucket": app.bucket,
            "concept_ids": _concept_ids(own),
            "text": plain_text(request.search, "search"),
        }
        rows = await self._database.rows(page.limit(_SQL["concepts"]), parameters)
        return service_pb2.MultiConceptResponse(concepts=[concept_proto(app, row) for row in rows])

    async def inputs(self, call: Call, request: service_pb2.ListModelInputsRequest) -> service_pb2.MultiInputResponse:
        """Inputs with a label of the model's concepts, newest first; none for a public model."""
        app, page = call.require_app(), list_page(request)
        own = await self._own(call, request.model_id, request.version_id)
        if own is None:
            self._catalogue.model(request.model_id, request.version_id)
            return service_pb2.MultiInputResponse()
        parameters = {"bucket": app.bucket, "concept_ids": _concept_ids(own)}
        ids = [id for (id,) in await self._database.rows(page.limit(_SQL["inputs"]), parameters)]
        rows = await self._database.rows(_INPUTS["list"], {"bucket": app.bucket, "status": 0, "ids": ids})
        messages = await self._records.inputs(app, [InputRow(*row) for row in rows])
        return service_pb2.MultiInputResponse(inputs=messages)

    async def estimate(
        self, call: Call, request: service_pb2.PostModelVersionsTrainingTimeEstimateRequest
    ) -> service_pb2.MultiTrainingTimeEstimateResponse:
        """How long training each of these versions may take: by what is labelled now, or by the number sent."""
        app = call.require_app()
        own = await self._models.need(app, request.model_id)
        times = [
            await self._time(app, own, item, request.estimated_input_count)
            for item in request.model_versions or [resources_pb2.ModelVersion()]
        ]
        return service_pb2.MultiTrainingTimeEstimateResponse(training_time_estimates=times)

    async def _time(self, app: AppRef, own: ModelRow, item: resources_pb2.ModelVersion, inputs: int) -> Duration:
        ids = [plain_text(concept.id, "id") for concept in item.output_info.data.concepts] or _concept_ids(own)
        if not inputs:
            parameters = {"bucket": app.bucket, "concept_ids": ids}
            row = await self._database.row(_SQL["count_inputs"], parameters)
            inputs = row[0] if row else 0
        time = Duration()
        time.FromMilliseconds(round(1000 * (_START_S + _LABEL_S * inputs * max(len(ids), 1))))
        return time

    async def _own(self, call: Call, model_id: str, version_id: str) -> ModelRow | None:
        return await self._models.find(
            call.require_app(), model_id, version_id, public_only=public_only(call), trained_first=True
        )


def _concept_ids(own: ModelRow) -> list[str]:
    """Those of the version; of a model that has not been told to learn yet, its own."""
    return list((own.version.concept_ids if own.version else ()) or own.concept_ids)
