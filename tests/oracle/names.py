"""Which concepts a reference means (api-spec 4.4)."""

from __future__ import annotations

from dataclasses import dataclass

from clarifai_grpc.grpc.api import resources_pb2
from tests.oracle.records import App


@dataclass(frozen=True)
class Naming:
    """The concepts of an app and of the public vocabulary, by id and by name."""

    app: App

    def meant(self, concept: resources_pb2.Concept, language: str) -> set[frozenset[str]]:
        """The concepts a reference means, each with all ids that are this one concept."""
        return {self._same(name) for name in self._named(concept, language)}

    def _same(self, concept_id: str) -> frozenset[str]:
        """An own concept and the public one of the same name in the app's language are one concept."""
        public = self._public(concept_id)
        return frozenset({public, *(name for name in self.app.own if self._public(name) == public)})

    def _public(self, concept_id: str) -> str:
        if concept_id in self.app.public:
            return concept_id
        language = self.app.language
        name = self._own_name(concept_id, language).lower()
        same = [public for public, words in self.app.public.items() if words.get(language, words["en"]).lower() == name]
        return same[0] if same else concept_id

    def _named(self, concept: resources_pb2.Concept, language: str) -> set[str]:
        """By id, else by name in its language, else the app's, else English."""
        if concept.id in self.app.public or concept.id in self.app.own:
            return {concept.id}
        for text in filter(None, (concept.id, concept.name)):
            for spoken in (concept.language or language or self.app.language, self.app.language, "en"):
                found = self._called(text.lower(), spoken)
                if found:
                    return found
        return set()

    def _called(self, text: str, language: str) -> set[str]:
        public = {name for name, words in self.app.public.items() if words.get(language, "").lower() == text}
        return public | {name for name in self.app.own if self._own_name(name, language).lower() == text}

    def _own_name(self, concept_id: str, language: str) -> str:
        name, others = self.app.own[concept_id]
        return name if language == self.app.language else others.get(language, "")
