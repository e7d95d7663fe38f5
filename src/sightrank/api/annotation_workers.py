"""Who annotated: the people and the versions of models that the annotations of an app are by (api-spec 3.3)."""

from __future__ import annotations

from clarifai_grpc.grpc.api import service_pb2

from sightrank.api.call import Call, Handlers
from sightrank.api.pages import list_page
from sightrank.api.records import fill_worker
from sightrank.store import queries
from sightrank.store.database import Database

_SQL = queries.load("annotations")


class AnnotationWorkers:
    """ListAnnotationWorkers: each worker once, as its annotations name it; people by id, then versions of models by id.

    Workflows are never among them: what their nodes say is said by models, or written in a person's name.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def handlers(self) -> Handlers:
        return {"ListAnnotationWorkers": self.list}

    async def list(
        self, call: Call, request: service_pb2.ListAnnotationWorkersRequest
    ) -> service_pb2.MultiWorkerResponse:
        """``trusted_only``: only people of whom something is trusted; what a model says never is."""
        app = call.require_app()
        parameters = {"bucket": app.bucket, "trusted_only": request.trusted_only}
        answer = service_pb2.MultiWorkerResponse()
        for row in await self._database.rows(list_page(request).limit(_SQL["workers"]), parameters):
            user_id, model_id, model_version_id, own_model = row
            fill_worker(
                answer.workers.add(),
                app,
                user_id=user_id,
                model_id=model_id,
                model_version_id=model_version_id,
                own_model=own_model,
            )
        return answer
