"""The public vocabulary: every concept the built-in tagger knows, with its names in many languages and its hypernyms.

A ``Vocabulary`` is read once from a bundle's ``vocabulary.json`` and never changes. A language without a name for a
concept falls back to English; asking for a name is never an error (api-spec 3.4, design "A2.8").
"""

from __future__ import annotations

import json
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

#: The languages of the API, as codes of ``Concept.language``.
LANGUAGES: tuple[str, ...] = (
    "ar",
    "bn",
    "da",
    "de",
    "en",
    "es",
    "fi",
    "fr",
    "hi",
    "hu",
    "it",
    "ja",
    "ko",
    "nl",
    "no",
    "pa",
    "pl",
    "pt",
    "ru",
    "sv",
    "tr",
    "zh",
    "zh-TW",
)

ENGLISH = "en"


def fold(name: str) -> str:
    """The form in which names are compared: compatibility-normalised, without case, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold()).split())


@dataclass(frozen=True, slots=True)
class Term:
    """One public concept. ``names`` always has English."""

    id: str
    names: Mapping[str, str]
    hypernyms: tuple[str, ...]
    definition: str

    @property
    def name(self) -> str:
        return self.names[ENGLISH]

    def name_in(self, language: str) -> tuple[str, str]:
        """The name in that language and the language it really is in: English where there is no translation."""
        name = self.names.get(language)
        return (name, language) if name else (self.name, ENGLISH)


@dataclass(frozen=True, slots=True)
class _Index:
    """The folded names of one language in order, each with its concept: what prefix and exact look-ups walk."""

    folded: tuple[str, ...]
    ids: tuple[str, ...]

    def starting_with(self, prefix: str) -> Iterator[tuple[str, str]]:
        position = bisect_left(self.folded, prefix)
        while position < len(self.folded) and self.folded[position].startswith(prefix):
            yield self.folded[position], self.ids[position]
            position += 1


class Vocabulary:
    """All public concepts, by id, by name in any language, and by their place under more general ones."""

    __slots__ = ("_indexes", "_terms")

    def __init__(self, terms: Iterable[Term]) -> None:
        self._terms: dict[str, Term] = {}
        for term in terms:
            if term.id in self._terms:
                raise ValueError(f"The vocabulary has the concept id {term.id} twice.")
            self._terms[term.id] = term
        self._indexes = {language: self._index(language) for language in LANGUAGES}

    @classmethod
    def load(cls, path: Path) -> Vocabulary:
        """Reads ``vocabulary.json``. Raises ValueError naming the file when an entry lacks its id or English name."""
        try:
            return cls(map(_term, json.loads(path.read_text(encoding="utf-8"))))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a vocabulary: {error}") from error

    @classmethod
    def empty(cls) -> Vocabulary:
        return cls(())

    def among(self, concept_ids: Iterable[str]) -> Vocabulary:
        """Only those of these concepts that it knows, in its own order: what one model of several predicts."""
        wanted = set(concept_ids)
        return Vocabulary(term for term in self if term.id in wanted)

    def __len__(self) -> int:
        return len(self._terms)

    def __contains__(self, concept_id: str) -> bool:
        return concept_id in self._terms

    def __iter__(self) -> Iterator[Term]:
        return iter(self._terms.values())

    def get(self, concept_id: str) -> Term | None:
        return self._terms.get(concept_id)

    def name(self, concept_id: str, language: str = ENGLISH) -> str:
        """The name in that language, else in English; an unknown id names itself."""
        term = self._terms.get(concept_id)
        return term.name_in(language)[0] if term else concept_id

    def by_name(self, name: str, language: str = ENGLISH) -> tuple[str, ...]:
        """Ids of the concepts so called in that language, whatever the case; else of those so called in English."""
        return self.translated(name, language) or self.translated(name, ENGLISH)

    def translated(self, name: str, language: str) -> tuple[str, ...]:
        """Ids of the concepts whose name in that very language this is; no English stands in."""
        folded = fold(name)
        found = (id for text, id in self._in(language).starting_with(folded) if text == folded)
        return tuple(id for id in found if language in self._terms[id].names)

    def search(self, query: str, language: str = ENGLISH) -> list[Term]:
        """Concepts whose name in that language (English where untranslated) matches.

        ``*`` stands for any text; without it the query is a prefix. Exact names first, then shorter before longer.
        """
        folded = fold(query)
        if "*" in folded:
            start = folded.partition("*")[0]
            found = [hit for hit in self._in(language).starting_with(start) if matches(folded, hit[0])]
        else:
            found = list(self._in(language).starting_with(folded))
        found.sort(key=lambda hit: (hit[0] != folded, len(hit[0]), hit[0], hit[1]))
        return [self._terms[id] for _, id in found]

    def hypernyms(self, concept_id: str) -> tuple[str, ...]:
        """The concepts directly above this one."""
        term = self._terms.get(concept_id)
        return term.hypernyms if term else ()

    def ancestors(self, concept_id: str) -> tuple[str, ...]:
        """All concepts above this one, nearest first, each once, never the concept itself."""
        found: dict[str, None] = {}
        level = self.hypernyms(concept_id)
        while level:
            fresh = [id for id in dict.fromkeys(level) if id not in found and id != concept_id]
            found.update(dict.fromkeys(fresh))
            level = tuple(above for id in fresh for above in self.hypernyms(id))
        return tuple(found)

    def _in(self, language: str) -> _Index:
        return self._indexes.get(language) or self._indexes[ENGLISH]

    def _index(self, language: str) -> _Index:
        pairs = sorted((fold(term.name_in(language)[0]), term.id) for term in self._terms.values())
        return _Index(tuple(name for name, _ in pairs), tuple(id for _, id in pairs))


def matches(folded_pattern: str, folded_name: str) -> bool:
    """Whether the name fits a pattern in which ``*`` is any text. Linear in the name, however many stars there are."""
    first, *middle = folded_pattern.split("*")
    if not middle:
        return folded_name == first
    last = middle.pop()
    end = len(folded_name) - len(last)
    if not folded_name.startswith(first) or not folded_name.endswith(last) or end < len(first):
        return False
    position = len(first)
    for part in middle:
        position = folded_name.find(part, position, end)
        if position < 0:
            return False
        position += len(part)
    return True


def _term(entry: dict[str, Any]) -> Term:
    names = {language: str(name) for language, name in entry.get("names", {}).items() if name}
    names.setdefault(ENGLISH, str(entry["name"]))
    return Term(
        id=str(entry["id"]),
        names=MappingProxyType(names),
        hypernyms=tuple(entry.get("hypernyms", ())),
        definition=str(entry.get("definition", "")),
    )
