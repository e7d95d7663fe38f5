"""Which concept is a kind of which, and which mean the same (api-spec 3.5).

An edge is stored once and read from both of its ends. clarifai/main has the hypernyms of its vocabulary as relations.
Searches do not look at relations.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2

from sightrank.api.apps import PRIVATE, PUBLIC, plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.concepts import concept_proto, is_public
from sightrank.api.datasets import public_only
from sightrank.api.identity import ME, PUBLIC_APP, PUBLIC_USER
from sightrank.api.knowledge_graphs import check_graphs
from sightrank.api.models import public_concept
from sightrank.api.pages import list_page
from sightrank.api.texts import visibility_of
from sightrank.errors import DoesNotExist, DuplicateKey, InvalidRequest
from sightrank.ingest.rows import hold_app, new_id
from sightrank.search.concepts import MAX_ID_CHARACTERS, ConceptBook
from sightrank.store.database import Connection, Database
from sightrank.store.queries import load
from sightrank.vision.vocabulary import Vocabulary

MAX_RELATIONS = 1000
HYPERNYM, HYPONYM, SYNONYM = "hypernym", "hyponym", "synonym"
_INVERSE = {HYPERNYM: HYPONYM, HYPONYM: HYPERNYM, SYNONYM: SYNONYM}


class _Edge(NamedTuple):
    """Columns of the statements that read relations."""

    id: str
    subject_id: str
    object_id: str
    predicate: str
    knowledge_graph_id: str
    visibility: resources_pb2.Visibility.Gettable.ValueType

    @property
    def inverse(self) -> _Edge:
        """The same edge seen from its other end."""
        return self._replace(subject_id=self.object_id, object_id=self.subject_id, predicate=_INVERSE[self.predicate])

    @property
    def stored(self) -> _Edge:
        """The one way round in which an edge is stored."""
        turned = self.predicate == HYPERNYM or (self.predicate == SYNONYM and self.subject_id > self.object_id)
        return self.inverse if turned else self

    @property
    def key(self) -> _Key:
        """What no two stored edges of an app share."""
        return self.subject_id, self.object_id, self.predicate, self.knowledge_graph_id


_Key = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Named:
    """A concept as a request names it: one of the app's own, a public one, or, by its id alone, either."""

    id: str
    where: str
    own: bool = True
    public: bool = True


class ConceptRelations:
    """The concept-relation rpcs."""

    def __init__(self, database: Database, book: ConceptBook) -> None:
        self._database = database
        self._book = book
        self._sql = load("relations")
        self._concepts = load("concepts")

    def handlers(self) -> Handlers:
        return {
            "PostConceptRelations": self.post,
            "ListConceptRelations": self.list,
            "DeleteConceptRelations": self.delete,
        }

    async def post(
        self, call: Call, request: service_pb2.PostConceptRelationsRequest
    ) -> service_pb2.MultiConceptRelationResponse:
        """All of the relations, or none. One that exists already, from either end, is answered as it is."""
        app, relations = call.require_app(), request.concept_relations
        if not relations:
            raise InvalidRequest("concept_relations is empty; send at least one relation.")
        if len(relations) > MAX_RELATIONS:
            raise InvalidRequest(
                f"concept_relations has {len(relations)} items; send at most {MAX_RELATIONS} in one call."
            )
        places = [f"concept_relations[{i}]" for i in range(len(relations))]
        ends = [_ends(app, request.concept_id, *item) for item in zip(relations, places, strict=True)]
        edges = [_edge(*item) for item in zip(relations, ends, places, strict=True)]
        async with self._database.transaction() as connection:
            cursor = await connection.execute(self._sql["lock_graphs"], {"bucket": app.bucket})
            if await cursor.fetchone() is None:
                raise DoesNotExist(f"App {app.app_id} was deleted.")
            await self._check_known(connection, app, [named for both in ends for named in both])
            await check_graphs(connection, app.bucket, [edge.knowledge_graph_id for edge in edges])
            made = await self._insert(connection, app, [edge.stored for edge in edges])
        answered = [edge._replace(**made[edge.stored.key]) for edge in edges]
        return await self._response(app, answered)

    async def list(
        self, call: Call, request: service_pb2.ListConceptRelationsRequest
    ) -> service_pb2.MultiConceptRelationResponse:
        """Oldest first. An empty knowledge graph means all of them.

        Of a concept: all its edges with it as subject, turned round where need be. Without one: each edge once, and
        hyponyms as hypernyms where those are asked for.
        """
        app, page = call.require_app(), list_page(request)
        concept_id, predicate = request.concept_id, request.predicate
        if predicate:
            _check_predicate(predicate, "predicate")
        async with self._database.connection() as connection:
            await check_graphs(connection, app.bucket, [request.knowledge_graph_id])
            if concept_id:
                await self._check_known(
                    connection, app, [_Named(id=_text(concept_id, "concept_id"), where="concept_id")]
                )
        if is_public(app):
            return await self._response(app, page.of([*_public_edges(self._book.vocabulary, concept_id, predicate)]))
        turned = not concept_id and predicate == HYPERNYM
        parameters = {
            "bucket": app.bucket,
            "public_only": public_only(call),
            "concept_id": concept_id,
            "predicate": HYPONYM if turned else predicate,
            "knowledge_graph_id": request.knowledge_graph_id,
        }
        statement = page.limit(self._sql["list_of_concept" if concept_id else "list"])
        edges = [_Edge(*row) for row in await self._database.rows(statement, parameters)]
        return await self._response(app, [edge.inverse if turned else edge for edge in edges])

    async def delete(self, call: Call, request: service_pb2.DeleteConceptRelationsRequest) -> status_pb2.BaseResponse:
        """All of these relations, or none when one is not there. ``concept_id`` may be either end of each.

        No ids are refused, except where there is no relation: the official SDK deletes those that it has listed, and
        raises when that is refused.
        """
        app = call.require_app()
        ids = [*dict.fromkeys(plain_text(name, "ids") for name in request.ids)]
        concept_id = plain_text(request.concept_id, "concept_id")
        parameters = {"bucket": app.bucket, "ids": ids, "concept_id": concept_id}
        async with self._database.transaction() as connection:
            await hold_app(connection, app.bucket)
            if not ids and (await connection.execute(self._sql["any"], parameters)).rowcount:
                raise InvalidRequest(
                    "ids is empty; name the relations to delete. ListConceptRelations shows their ids."
                )
            cursor = await connection.execute(self._sql["lock_to_delete"], parameters)
            found = {name for (name,) in await cursor.fetchall()}
            unknown = next((name for name in ids if name not in found), None)
            if unknown is not None:
                whose = f"Concept {concept_id!r} of app" if concept_id else "App"
                raise DoesNotExist(f"{whose} {app.app_id!r} has no relation {unknown!r}.")
            await connection.execute(self._sql["delete"], parameters)
        return status_pb2.BaseResponse()

    async def _insert(
        self, connection: Connection, app: AppRef, edges: Sequence[_Edge]
    ) -> Mapping[_Key, Mapping[str, Any]]:
        """Id and visibility of each of these edges, which the app has then. Raises DuplicateKey when one of their ids
        belongs to another edge, InvalidRequest when a concept would be a kind of itself."""
        rows = json.dumps([{"place": i, **edge._asdict()} for i, edge in enumerate(edges)])
        parameters = {"bucket": app.bucket, "rows": rows}
        await connection.execute(self._sql["insert"], parameters)
        stored = [_Edge(*row) for row in await (await connection.execute(self._sql["stored"], parameters)).fetchall()]
        made = {edge.key: {"id": edge.id, "visibility": edge.visibility} for edge in stored}
        taken = next((edge.id for edge in edges if edge.key not in made), None)
        if taken is not None:
            raise DuplicateKey(f"App {app.app_id!r} has another relation {taken!r}; choose another id, or send none.")
        circle = await (await connection.execute(self._sql["circle"], parameters)).fetchone()
        if circle is not None:
            raise InvalidRequest(
                f"With these relations concept {circle[0]!r} would be a kind of itself; remove a relation of the circle"
                " first, or say `synonym` if the concepts mean the same."
            )
        return made

    async def _check_known(self, connection: Connection, app: AppRef, named: Sequence[_Named]) -> None:
        """Raises DoesNotExist for a concept that is not where it should be."""
        own = await self._own(connection, app, [concept.id for concept in named])
        for concept in named:
            if not (concept.own and concept.id in own) and not (concept.public and self._is_public(concept.id)):
                place = " or ".join([f"app {app.app_id!r}"] * concept.own + ["clarifai/main"] * concept.public)
                raise DoesNotExist(f"{concept.where}: there is no concept {concept.id!r} in {place}.")

    def _is_public(self, concept_id: str) -> bool:
        return concept_id in self._book.vocabulary

    async def _own(self, connection: Connection, app: AppRef, ids: Sequence[str]) -> dict[str, Sequence[Any]]:
        """The rows of those of these concepts that are the app's own."""
        parameters = {"bucket": app.bucket, "ids": sorted(set(ids))}
        cursor = await connection.execute(self._concepts["rows"], parameters)
        return {row[0]: row for row in await cursor.fetchall()}

    async def _response(self, app: AppRef, edges: Sequence[_Edge]) -> service_pb2.MultiConceptRelationResponse:
        ids = [concept_id for edge in edges for concept_id in (edge.subject_id, edge.object_id)]
        async with self._database.connection() as connection:
            own = await self._own(connection, app, ids) if ids else {}
        return service_pb2.MultiConceptRelationResponse(
            concept_relations=[
                resources_pb2.ConceptRelation(
                    id=edge.id,
                    subject_concept=self._concept(app, edge.subject_id, own),
                    object_concept=self._concept(app, edge.object_id, own),
                    predicate=edge.predicate,
                    knowledge_graph_id=edge.knowledge_graph_id,
                    visibility=resources_pb2.Visibility(gettable=edge.visibility),
                )
                for edge in edges
            ]
        )

    def _concept(self, app: AppRef, concept_id: str, own: Mapping[str, Sequence[Any]]) -> resources_pb2.Concept:
        if concept_id in own:
            return concept_proto(app, own[concept_id])
        term = self._book.vocabulary.get(concept_id)
        if term is not None:
            return public_concept(term, app.default_language)
        # A public concept that an older vocabulary had.
        return resources_pb2.Concept(id=concept_id, name=concept_id, value=1.0, app_id=PUBLIC_APP, user_id=PUBLIC_USER)


def _ends(app: AppRef, concept_id: str, item: resources_pb2.ConceptRelation, where: str) -> tuple[_Named, _Named]:
    """Subject and object. The path names the subject; a subject of the relation itself must be the same."""
    subject = _named(app, item.subject_concept, f"{where}.subject_concept") if item.subject_concept.id else None
    if subject is None:
        subject = _Named(id=_text(concept_id, "concept_id"), where="concept_id")
    elif concept_id not in ("", subject.id):
        raise InvalidRequest(
            f"{where}.subject_concept.id is {subject.id!r}, but concept_id, the subject of all relations, is"
            f" {concept_id!r}; leave one of them out."
        )
    return subject, _named(app, item.object_concept, f"{where}.object_concept")


def _named(app: AppRef, concept: resources_pb2.Concept, where: str) -> _Named:
    """Raises InvalidRequest for a concept without an id, or of an app that is neither this one nor clarifai/main."""
    concept_id = _text(concept.id, f"{where}.id")
    own = concept.app_id in ("", app.app_id) and concept.user_id in ("", ME, app.user_id)
    public = concept.app_id in ("", PUBLIC_APP) and concept.user_id in ("", PUBLIC_USER)
    if not (own or public):
        raise InvalidRequest(
            f"{where} is of app {concept.user_id or app.user_id}/{concept.app_id}; relations join concepts of"
            f" {app.user_id}/{app.app_id} and of {PUBLIC_USER}/{PUBLIC_APP}."
        )
    return _Named(id=concept_id, where=where, own=own, public=public)


def _edge(item: resources_pb2.ConceptRelation, ends: tuple[_Named, _Named], where: str) -> _Edge:
    """Raises InvalidRequest for an unknown predicate and for a concept that is related to itself."""
    subject, object_ = ends
    _check_predicate(item.predicate, f"{where}.predicate")
    if subject.id == object_.id:
        raise InvalidRequest(f"{where} relates concept {subject.id!r} to itself; name two concepts.")
    if len(item.id) > MAX_ID_CHARACTERS:
        raise InvalidRequest(f"{where}.id has {len(item.id)} characters; {MAX_ID_CHARACTERS} is the limit.")
    return _Edge(
        id=plain_text(item.id, f"{where}.id") or new_id(),
        subject_id=subject.id,
        object_id=object_.id,
        predicate=item.predicate,
        knowledge_graph_id=plain_text(item.knowledge_graph_id, f"{where}.knowledge_graph_id"),
        visibility=visibility_of(item.visibility, f"{where}.visibility") or PRIVATE,
    )


def _check_predicate(predicate: str, where: str) -> None:
    if predicate not in _INVERSE:
        raise InvalidRequest(f"{where} is {predicate!r}; it can be {', '.join(_INVERSE)}.")


def _text(concept_id: str, where: str) -> str:
    if not concept_id:
        raise InvalidRequest(f"{where} is empty; name the concept by its id.")
    return plain_text(concept_id, where)


def _public_edges(vocabulary: Vocabulary, concept_id: str, predicate: str) -> Iterator[_Edge]:
    """What the vocabulary says of its concepts, seen from one of them or, without any, each edge once."""
    for term in vocabulary:
        for above in term.hypernyms:
            hyponym = _public_edge(term.id, above)
            turned = concept_id == above or (not concept_id and predicate == HYPERNYM)
            edge = hyponym.inverse if turned else hyponym
            if above in vocabulary and concept_id in ("", edge.subject_id) and predicate in ("", edge.predicate):
                yield edge


def _public_edge(below: str, above: str) -> _Edge:
    """Its id is the same whenever it is asked for."""
    name = hashlib.sha256(f"{below} {HYPONYM} {above}".encode()).hexdigest()[:32]
    return _Edge(
        id=name, subject_id=below, object_id=above, predicate=HYPONYM, knowledge_graph_id="", visibility=PUBLIC
    )
