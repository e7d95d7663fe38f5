"""Finding concepts by name, in any language (api-spec 3.4, PostConceptsSearches)."""

from __future__ import annotations

from collections.abc import Sequence

from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from psycopg import sql

from sightrank.api.apps import plain_text
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.concepts import concept_proto, is_public
from sightrank.api.models import public_concept
from sightrank.api.pages import Page, search_page
from sightrank.api.patterns import like_pattern
from sightrank.errors import InvalidRequest
from sightrank.search.concepts import ConceptBook
from sightrank.store.database import Database
from sightrank.store.queries import load
from sightrank.vision.vocabulary import ENGLISH, LANGUAGES, Term, Vocabulary, fold


class ConceptSearch:
    """The app's own concepts first, then the public ones; exact names before longer ones. A name is a prefix, unless
    ``*`` in it stands for any text. What has no name in the language asked for is found by its default name."""

    def __init__(self, database: Database, book: ConceptBook, catalogue: Catalogue) -> None:
        self._database = database
        self._book = book
        self._catalogue = catalogue
        self._sql = load("concepts")

    def handlers(self) -> Handlers:
        return {"PostConceptsSearches": self.search}

    async def search(
        self, call: Call, request: service_pb2.PostConceptsSearchesRequest
    ) -> service_pb2.MultiConceptResponse:
        app, page, query = call.require_app(), search_page(request.pagination), request.concept_query
        language = _language(query.language)
        name = plain_text(query.name, "concept_query.name")
        public = self._public(query).search(name, language)
        if query.ignore_app_concepts or query.use_cases or is_public(app):
            return _answer([], page.of(public), language)
        own, total, taken = await self._own(app, fold(name), language, page, public)
        rest = [term for term in public if term.id not in taken]
        start = max(0, page.offset - total)
        return _answer(own, rest[start : start + page.per_page - len(own)], language)

    def _public(self, query: resources_pb2.ConceptQuery) -> Vocabulary:
        """The vocabulary of the model or workflow that the query names; of clarifai/main without one."""
        if query.model.id:
            return self._catalogue.model(query.model.id, query.model.model_version.id).concepts
        workflow_id = query.workflow.id or query.workflow_id
        if workflow_id:
            tagger = self._catalogue.workflow(workflow_id).tagger
            return tagger.concepts if tagger else Vocabulary.empty()
        return self._book.vocabulary

    async def _own(
        self, app: AppRef, folded: str, language: str, page: Page, public: Sequence[Term]
    ) -> tuple[Sequence[resources_pb2.Concept], int, frozenset[str]]:
        """This page of the app's own matches, how many there are, and which public concepts the app has as its own."""
        parameters = {
            "bucket": app.bucket,
            "language": language if language != app.default_language else "",
            "pattern": like_pattern(folded if "*" in folded else f"{folded}*"),
            "exact": folded,
            "public_ids": [term.id for term in public],
        }
        statement = sql.SQL(self._sql["search"]).format(page=page.clause)
        rows = await self._database.rows(statement, parameters)
        concepts = [
            concept_proto(app, row[2:6], language if row[6] else app.default_language)
            for row in rows
            if row[2] is not None
        ]
        return concepts, rows[0][0], frozenset(rows[0][1])


def _answer(
    own: Sequence[resources_pb2.Concept], public: Sequence[Term], language: str
) -> service_pb2.MultiConceptResponse:
    return service_pb2.MultiConceptResponse(concepts=[*own, *(public_concept(term, language) for term in public)])


def _language(language: str) -> str:
    if language and language not in LANGUAGES:
        raise InvalidRequest(f"concept_query.language is {language}; it can be one of {', '.join(LANGUAGES)}.")
    return language or ENGLISH
