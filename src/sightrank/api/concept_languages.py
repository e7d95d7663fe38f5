"""Names of concepts in other languages (api-spec 3.5). The entry of the app's own language is the concept's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.pages import list_page
from sightrank.errors import ConceptsInvalid, DoesNotExist, InvalidRequest, quoted
from sightrank.search.concepts import ConceptBook, check_concept
from sightrank.store.buckets import next_version
from sightrank.store.database import Connection, Database
from sightrank.store.queries import load
from sightrank.vision.vocabulary import LANGUAGES, fold


class ConceptLanguages:
    """The concept-language rpcs. Public concepts are read-only here as everywhere."""

    def __init__(self, database: Database, book: ConceptBook) -> None:
        self._database = database
        self._book = book
        self._sql = load("concepts")

    def handlers(self) -> Handlers:
        return {
            "GetConceptLanguage": self.get,
            "ListConceptLanguages": self.list,
            "PostConceptLanguages": self.post,
            "PatchConceptLanguages": self.patch,
        }

    async def get(
        self, call: Call, request: service_pb2.GetConceptLanguageRequest
    ) -> service_pb2.SingleConceptLanguageResponse:
        for entry in await self._entries(call.require_app(), request.concept_id):
            if entry.id == request.language:
                return service_pb2.SingleConceptLanguageResponse(concept_language=entry)
        raise DoesNotExist(f"Concept {request.concept_id} has no name in the language {request.language or '(empty)'}.")

    async def list(
        self, call: Call, request: service_pb2.ListConceptLanguagesRequest
    ) -> service_pb2.MultiConceptLanguageResponse:
        """The app's own language first, then by code."""
        entries = await self._entries(call.require_app(), request.concept_id)
        return service_pb2.MultiConceptLanguageResponse(concept_languages=list_page(request).of(entries))

    async def post(
        self, call: Call, request: service_pb2.PostConceptLanguagesRequest
    ) -> service_pb2.MultiConceptLanguageResponse:
        """All of the names, or none when there is one in such a language already."""
        app = call.require_app()
        values = _values(app, request)
        async with self._database.transaction() as connection:
            await self._check_own(connection, app, request.concept_id)
            rows = await (await connection.execute(self._sql["insert_languages"], values)).fetchall()
            taken = sorted(set(values["languages"]) - {row[0] for row in rows})
            if taken:
                raise ConceptsInvalid(
                    f"Duplicate language: concept {request.concept_id} already has a name in {', '.join(taken)}."
                    " Use PatchConceptLanguages to change it."
                )
            await next_version(connection, app.bucket, labels=False)
        return service_pb2.MultiConceptLanguageResponse(concept_languages=request.concept_languages)

    async def patch(
        self, call: Call, request: service_pb2.PatchConceptLanguagesRequest
    ) -> service_pb2.MultiConceptLanguageResponse:
        """``overwrite`` or ``merge``, which do the same to two texts: what is empty stays."""
        app = call.require_app()
        if request.action not in ("overwrite", "merge"):
            raise InvalidRequest(f"action is {request.action or 'empty'}; it can be `overwrite` or `merge`.")
        values = _values(app, request)
        async with self._database.transaction() as connection:
            await self._check_own(connection, app, request.concept_id)
            rows = await (await connection.execute(self._sql["patch_languages"], values)).fetchall()
            renamed = await self._rename(connection, app, values)
            rows = [*rows, *renamed]
            unknown = sorted(set(values["languages"]) - {row[0] for row in rows})
            if unknown:
                raise DoesNotExist(
                    f"Concept {request.concept_id} has no name in {', '.join(unknown)}. Add it by PostConceptLanguages."
                )
            await next_version(connection, app.bucket, labels=bool(renamed))
        return service_pb2.MultiConceptLanguageResponse(concept_languages=map(_entry, rows))

    async def _entries(self, app: AppRef, concept_id: str) -> Sequence[resources_pb2.ConceptLanguage]:
        """All names of the app's own concept, else of the public one. Raises DoesNotExist."""
        parameters = {
            "bucket": app.bucket,
            "concept_id": plain_text(concept_id, "concept_id"),
            "default_language": app.default_language,
        }
        rows = await self._database.rows(self._sql["languages"], parameters)
        if rows:
            return [_entry(row) for row in rows]
        term = self._book.vocabulary.get(concept_id)
        if term is None:
            raise DoesNotExist(
                f"There is no concept {quoted(concept_id)} in {app.user_id}/{app.app_id}, and no public one."
            )
        return [_entry((language, term.names[language], "")) for language in LANGUAGES if language in term.names]

    async def _check_own(self, connection: Connection, app: AppRef, concept_id: str) -> None:
        parameters = {"bucket": app.bucket, "ids": [plain_text(concept_id, "concept_id")]}
        if await (await connection.execute(self._sql["lock_for_patch"], parameters)).fetchone() is None:
            raise DoesNotExist(f"App {app.app_id} has no concept {concept_id} of its own.")

    async def _rename(self, connection: Connection, app: AppRef, values: dict[str, Any]) -> Sequence[Any]:
        """The entry of the app's own language is the concept's name."""
        if app.default_language not in values["languages"]:
            return []
        place = values["languages"].index(app.default_language)
        columns = {name: [values[name][place]] for name in ("names", "folded", "definitions")}
        parameters = {"bucket": app.bucket, "ids": [values["concept_id"]]} | columns
        rows = await (await connection.execute(self._sql["patch"], parameters)).fetchall()
        return [(app.default_language, name, definition) for _, name, definition, _ in rows]


def _values(app: AppRef, request: Any) -> dict[str, Any]:
    entries = request.concept_languages
    languages = [entry.id for entry in entries]
    unknown = sorted(set(languages) - set(LANGUAGES))
    if unknown or not entries:
        raise ConceptsInvalid(
            f"concept_languages names {', '.join(unknown) or 'no language'}; id can be one of {', '.join(LANGUAGES)}."
        )
    if len(set(languages)) < len(languages):
        raise ConceptsInvalid("The request has duplicate languages; name each once.")
    posting = isinstance(request, service_pb2.PostConceptLanguagesRequest)
    if posting and app.default_language in languages:
        raise ConceptsInvalid(
            f"Duplicate language: {app.default_language} is the app's own, in which every concept has its name already."
            " Use PatchConceptLanguages to change it."
        )
    for entry in entries:
        if posting and not entry.name.strip():
            raise ConceptsInvalid(f"The name in {entry.id} is empty; give the concept's name in that language.")
        check_concept(request.concept_id, entry.name)
    definitions = [plain_text(entry.definition, "definition") for entry in entries]
    return {
        "bucket": app.bucket,
        "concept_id": request.concept_id,
        "languages": languages,
        "names": [entry.name or None for entry in entries],
        "folded": [fold(entry.name) if entry.name else None for entry in entries],
        "definitions": definitions if posting else [definition or None for definition in definitions],
    }


def _entry(row: Sequence[Any]) -> resources_pb2.ConceptLanguage:
    language, name, definition = row
    return resources_pb2.ConceptLanguage(id=language, name=name, definition=definition)
