"""Concepts of an app and of the public vocabulary: making, reading, renaming, counting (api-spec 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from psycopg import sql

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.identity import PUBLIC_APP, PUBLIC_USER
from sightrank.api.models import public_concept
from sightrank.api.pages import list_page
from sightrank.errors import ConceptsInvalid, DoesNotExist, InvalidRequest, quoted
from sightrank.search.concepts import ConceptBook, NewConcepts, check_concept
from sightrank.store.buckets import next_version
from sightrank.store.database import Database
from sightrank.store.queries import load
from sightrank.vision.vocabulary import fold

_STATUS_FIELDS = {30000: "processed", 30001: "to_process", 30002: "errors", 30003: "processing"}


class Concepts:
    """The concept rpcs. Public concepts are read-only; reading one from any app works.

    Whoever names something raises the app's version, because searches remember what names mean.
    """

    def __init__(self, database: Database, book: ConceptBook) -> None:
        self._database = database
        self._book = book
        self._sql = load("concepts")

    def handlers(self) -> Handlers:
        return {
            "PostConcepts": self.post,
            "GetConcept": self.get,
            "ListConcepts": self.list,
            "PatchConcepts": self.patch,
            "GetConceptCounts": self.counts,
        }

    async def post(self, call: Call, request: service_pb2.PostConceptsRequest) -> service_pb2.MultiConceptResponse:
        """All of the concepts, or none when one of them exists already."""
        app = call.require_app()
        new = _new_concepts(request.concepts)
        async with self._database.transaction() as connection:
            rows = await self._book.insert(connection, app.bucket, new)
            _check_complete(new.ids, rows)
            await next_version(connection, app.bucket, labels=False)
        return _answer(app, new.ids, rows)

    async def get(self, call: Call, request: service_pb2.GetConceptRequest) -> service_pb2.SingleConceptResponse:
        """The app's own concept, else the public one of that id."""
        app = call.require_app()
        concept_id = plain_text(request.concept_id, "concept_id")
        row = await self._database.row(self._sql["rows"], {"bucket": app.bucket, "ids": [concept_id]})
        if row is not None:
            return service_pb2.SingleConceptResponse(concept=concept_proto(app, row))
        term = self._book.vocabulary.get(concept_id)
        if term is None:
            raise DoesNotExist(
                f"There is no concept {quoted(concept_id)} in {app.user_id}/{app.app_id}, and no public one."
            )
        return service_pb2.SingleConceptResponse(concept=public_concept(term, app.default_language))

    async def list(self, call: Call, request: service_pb2.ListConceptsRequest) -> service_pb2.MultiConceptResponse:
        """The app's own concepts, oldest first; those of the vocabulary for clarifai/main."""
        app, page = call.require_app(), list_page(request)
        if is_public(app):
            terms = [term for term in self._book.vocabulary if request.id.lower() in term.id.lower()]
            return service_pb2.MultiConceptResponse(concepts=map(public_concept, page.of(terms)))
        parameters = {"bucket": app.bucket, "id": plain_text(request.id, "id")}
        rows = await self._database.rows(page.limit(self._sql["list"]), parameters)
        return service_pb2.MultiConceptResponse(concepts=[concept_proto(app, row) for row in rows])

    async def patch(self, call: Call, request: service_pb2.PatchConceptsRequest) -> service_pb2.MultiConceptResponse:
        """``overwrite`` of name and definition; what is empty stays. All of the changes, or none."""
        app = call.require_app()
        if request.action != "overwrite":
            raise InvalidRequest(f"action is {request.action or 'empty'}; concepts are patched by `overwrite`.")
        parameters = {"bucket": app.bucket} | _patch_values(request.concepts)
        async with self._database.transaction() as connection:
            await connection.execute(self._sql["lock_for_patch"], parameters)
            rows = await (await connection.execute(self._sql["patch"], parameters)).fetchall()
            unknown = sorted(set(parameters["ids"]) - {row[0] for row in rows})
            if unknown:
                raise DoesNotExist(f"App {app.app_id} has no concept {', '.join(unknown)} of its own to patch.")
            # By its name a concept is one with a public one, and so are their labels.
            await next_version(connection, app.bucket, labels=True)
        return _answer(app, parameters["ids"], rows)

    async def counts(
        self, call: Call, request: service_pb2.GetConceptCountsRequest
    ) -> service_pb2.MultiConceptCountResponse:
        """For each concept, how many inputs are labelled with it (positive) and as not having it (negative)."""
        statement = sql.SQL(self._sql["counts"]).format(page=list_page(request).clause)
        rows = await self._database.rows(statement, {"bucket": call.require_app().bucket})
        counts: dict[str, resources_pb2.ConceptCount] = {}
        for concept_id, name, status, positive, inputs in rows:
            count = counts.setdefault(concept_id, _no_count(concept_id, name))
            if status is not None:
                _add_count(count, status, "positive" if positive else "negative", inputs)
        return service_pb2.MultiConceptCountResponse(concept_counts=counts.values())


def is_public(app: AppRef) -> bool:
    return (app.user_id, app.app_id) == (PUBLIC_USER, PUBLIC_APP)


def concept_proto(app: AppRef, row: Sequence[Any], language: str = "") -> resources_pb2.Concept:
    """An app's own concept from (id, name, definition, created_at)."""
    concept_id, name, definition, created_at = row
    concept = resources_pb2.Concept(
        id=concept_id,
        name=name,
        value=1.0,
        language=language or app.default_language,
        definition=definition,
        app_id=app.app_id,
        user_id=app.user_id,
        visibility=resources_pb2.Visibility(gettable=resources_pb2.Visibility.Gettable.PRIVATE),
    )
    concept.created_at.FromDatetime(created_at)
    return concept


def _answer(app: AppRef, ids: Sequence[str], rows: Sequence[Sequence[Any]]) -> service_pb2.MultiConceptResponse:
    by_id = {row[0]: row for row in rows}
    return service_pb2.MultiConceptResponse(concepts=[concept_proto(app, by_id[concept_id]) for concept_id in ids])


def _new_concepts(concepts: Sequence[resources_pb2.Concept]) -> NewConcepts:
    """A concept without a name is called by its id, one without an id gets its name as id."""
    if not concepts:
        raise ConceptsInvalid("concepts is empty; send at least one concept.")
    new = NewConcepts()
    for concept in concepts:
        check_concept(concept.id, concept.name)
        definition = plain_text(concept.definition, "definition")
        new.add(concept.id or concept.name, concept.name or concept.id, definition)
    if len(set(new.ids)) < len(new.ids):
        raise ConceptsInvalid(f"The request has duplicate concept ids: {', '.join(_repeated(new.ids))}.")
    return new


def _check_complete(ids: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    taken = sorted(set(ids) - {row[0] for row in rows})
    if taken:
        raise ConceptsInvalid(
            f"Duplicate concept: the app already has {', '.join(taken)}. Use PatchConcepts to change a concept."
        )


def _patch_values(concepts: Sequence[resources_pb2.Concept]) -> dict[str, Any]:
    """None leaves the column alone."""
    if not concepts:
        raise ConceptsInvalid("concepts is empty; send at least one concept.")
    ids = [concept.id for concept in concepts]
    if len(set(ids)) < len(ids):
        raise ConceptsInvalid(f"The request has duplicate concept ids: {', '.join(_repeated(ids))}.")
    for concept in concepts:
        if not concept.id:
            raise ConceptsInvalid("A concept to patch has no id; patches go by id.")
        check_concept(concept.id, concept.name)
    return {
        "ids": ids,
        "names": [concept.name or None for concept in concepts],
        "folded": [fold(concept.name) if concept.name else None for concept in concepts],
        "definitions": [plain_text(concept.definition, "definition") or None for concept in concepts],
    }


def _repeated(ids: Sequence[str]) -> Sequence[str]:
    return sorted({concept_id for concept_id in ids if ids.count(concept_id) > 1})


def _no_count(concept_id: str, name: str) -> resources_pb2.ConceptCount:
    return resources_pb2.ConceptCount(
        id=concept_id,
        name=name,
        concept_type_count=resources_pb2.ConceptTypeCount(),
        detail_concept_count=resources_pb2.DetailConceptCount(),
    )


def _add_count(count: resources_pb2.ConceptCount, status: int, kind: str, inputs: int) -> None:
    targets = [count.concept_type_count]
    if status in _STATUS_FIELDS:
        targets.append(getattr(count.detail_concept_count, _STATUS_FIELDS[status]))
    for target in targets:
        setattr(target, kind, getattr(target, kind) + inputs)
