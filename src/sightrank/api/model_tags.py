"""The four lists of tags that a model has, each patched by an rpc of its own. ``PatchModels`` writes them too."""

from __future__ import annotations

from collections.abc import Sequence

from clarifai_grpc.grpc.api import service_pb2
from psycopg import sql

from sightrank.api.apps import plain_text
from sightrank.api.call import Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.model_drafts import checked_action, patched_words
from sightrank.api.model_edits import unknown_model
from sightrank.errors import ModelInvalidArgument
from sightrank.ingest.rows import hold_app
from sightrank.store import queries
from sightrank.store.database import Database

MAX_TAGS = 128
MAX_TAG_CHARACTERS = 256
_SQL = queries.load("models")


class ModelTags:
    """Toolkits, use cases, languages and consents of a model: ``merge`` adds the tags sent, ``overwrite`` puts them in
    place of those before (none sent: none are left), ``remove`` takes them away. Each answers with what is there then.
    """

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database = database
        self._catalogue = catalogue

    def handlers(self) -> Handlers:
        return {
            "PatchModelToolkits": self.toolkits,
            "PatchModelUseCases": self.use_cases,
            "PatchModelLanguages": self.languages,
            "PatchModelCheckConsents": self.check_consents,
        }

    async def toolkits(
        self, call: Call, request: service_pb2.PatchModelToolkitsRequest
    ) -> service_pb2.MultiModelToolkitResponse:
        tags = await self._patched(call, request.model_id, "toolkits", request.toolkits, request.action)
        return service_pb2.MultiModelToolkitResponse(toolkits=tags)

    async def use_cases(
        self, call: Call, request: service_pb2.PatchModelUseCasesRequest
    ) -> service_pb2.MultiModelUseCaseResponse:
        tags = await self._patched(call, request.model_id, "use_cases", request.usecases, request.action)
        return service_pb2.MultiModelUseCaseResponse(usecases=tags)

    async def languages(
        self, call: Call, request: service_pb2.PatchModelLanguagesRequest
    ) -> service_pb2.MultiModelLanguageResponse:
        tags = await self._patched(call, request.model_id, "languages", request.languages, request.action)
        return service_pb2.MultiModelLanguageResponse(languages=tags)

    async def check_consents(
        self, call: Call, request: service_pb2.PatchModelCheckConsentsRequest
    ) -> service_pb2.MultiModelCheckConsentResponse:
        tags = await self._patched(call, request.model_id, "check_consents", request.check_consents, request.action)
        return service_pb2.MultiModelCheckConsentResponse(check_consents=tags)

    async def _patched(self, call: Call, model_id: str, column: str, sent: Sequence[str], action: str) -> Sequence[str]:
        """Raises ModelDoesNotExist, ModelForbidden for a public model, InvalidRequest for an unknown action and
        ModelInvalidArgument for tags that cannot be kept.
        """
        app = call.require_app()
        checked_action(action)
        if len(sent) > MAX_TAGS:
            raise ModelInvalidArgument(f"{column} has {len(sent)} items; {MAX_TAGS} is the limit.")
        wanted = [_tag(tag, f"{column}[{i}]") for i, tag in enumerate(sent)]
        if not wanted and action != "overwrite":
            raise ModelInvalidArgument(f"{column} is empty; name what to {action}. `overwrite` with none removes all.")
        keys = {"bucket": app.bucket, "id": plain_text(model_id, "model_id")}
        identifier = sql.Identifier(column)
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            cursor = await connection.execute(sql.SQL(_SQL["lock_tags"]).format(column=identifier), keys)
            row = await cursor.fetchone()
            if row is None:
                raise unknown_model(self._catalogue, app, model_id)
            tags = patched_words(row[0], wanted, action)
            if len(tags) > MAX_TAGS:
                raise ModelInvalidArgument(
                    f"Model {model_id!r} would have {len(tags)} {column}; {MAX_TAGS} is the limit."
                )
            await connection.execute(sql.SQL(_SQL["update_tags"]).format(column=identifier), {**keys, "tags": tags})
        return tags


def _tag(tag: str, where: str) -> str:
    if not tag.strip() or len(tag) > MAX_TAG_CHARACTERS:
        raise ModelInvalidArgument(f"{where} is {tag[:40]!r}; a tag has 1 to {MAX_TAG_CHARACTERS} characters.")
    return plain_text(tag, where)
