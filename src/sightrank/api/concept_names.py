"""What predicted concepts are called, and whose they are: the app's own, or those of clarifai/main."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.call import AppRef
from sightrank.api.identity import PUBLIC_APP, PUBLIC_USER
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.vision.vocabulary import ENGLISH, Vocabulary

_SQL = queries.load("concepts")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnName:
    """The name of an app's concept, the language it is in, and its name in the app's own language."""

    name: str
    language: str
    original: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConceptNames:
    """Names in one language: ``own`` by concept id, of the app ``user_id``/``app_id``, before the public ones."""

    public: Vocabulary
    language: str = ENGLISH
    own: Mapping[str, OwnName] = field(default_factory=dict)
    user_id: str = ""
    app_id: str = ""

    def concept(self, concept_id: str, value: float) -> resources_pb2.Concept:
        """The concept as clients see it. One that nobody named goes by its id, as the app's where there is one."""
        own = self.own.get(concept_id)
        term = self.public.get(concept_id) if own is None else None
        if term is not None or (own is None and not self.app_id):
            name, language = term.name_in(self.language) if term else (concept_id, "")
            return resources_pb2.Concept(
                id=concept_id, name=name, value=value, language=language, user_id=PUBLIC_USER, app_id=PUBLIC_APP
            )
        return resources_pb2.Concept(
            id=concept_id,
            name=own.name if own else concept_id,
            value=value,
            language=own.language if own else "",
            user_id=self.user_id,
            app_id=self.app_id,
        )

    def name(self, concept_id: str) -> str:
        """By which a concept is selected: in the app's own language, or in English for a public one."""
        own = self.own.get(concept_id)
        return own.original if own else self.public.name(concept_id)


async def own_names(
    database: Database, app: AppRef, public: Vocabulary, concept_ids: Collection[str], language: str
) -> ConceptNames:
    """The names of those of these concepts that are the app's, and of public ones."""
    parameters = {"bucket": app.bucket, "ids": sorted(concept_ids), "language": language}
    rows = await database.rows(_SQL["names_in"], parameters) if concept_ids else []
    return ConceptNames(
        public=public,
        language=language,
        own={
            id: OwnName(
                name=translated or name, language=language if translated else app.default_language, original=name
            )
            for id, name, translated in rows
        },
        user_id=app.user_id,
        app_id=app.app_id,
    )
