"""Ranks by a text in apps whose workflow reads none: the text becomes the concepts it names, and a note says which."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sightrank.errors import SearchInvalid
from sightrank.search.concepts import ConceptBook
from sightrank.search.query import ConceptName, ConceptTerm, Query, Rank, Term, TextTerm
from sightrank.search.scope import SearchScope
from sightrank.search.wording import MOST_CHARACTERS, Reading, Wording, phrases
from sightrank.store.database import Database
from sightrank.vision.words import WordVectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded:
    """A query without texts that nobody can read, and what to tell about them."""

    query: Query
    note: str = ""


class Texts:
    """Reads the texts of searches."""

    def __init__(self, database: Database, book: ConceptBook, wording: Wording) -> None:
        self._database = database
        self._book = book
        self._wording = wording
        self._vectors = WordVectors([term.name for term in book.vocabulary])

    async def worded(self, scope: SearchScope, query: Query) -> Worded:
        """Raises SearchInvalid for a text that names no concept."""
        if scope.eye is None or scope.eye.reads or not any(_has_text(rank) for rank in query.ranks):
            return Worded(query=query)
        notes: list[str] = []
        ranks = [await self._rank(scope, rank, notes) for rank in query.ranks]
        return Worded(query=replace(query, ranks=tuple(ranks)), note=" ".join(notes))

    async def _rank(self, scope: SearchScope, rank: Rank, notes: list[str]) -> Rank:
        terms: list[Term] = []
        for term in rank.terms:
            terms += await self._concepts(scope, term, notes) if isinstance(term, TextTerm) else [term]
        return replace(rank, terms=tuple(terms))

    async def _concepts(self, scope: SearchScope, term: TextTerm, notes: list[str]) -> list[Term]:
        if len(term.raw) > MOST_CHARACTERS:
            raise SearchInvalid(
                f"The text has {len(term.raw)} characters. This app's base workflow reads no text, so its words are"
                f" looked up as concepts, of at most {MOST_CHARACTERS} characters; send a shorter text."
            )
        names = sorted(phrases(term.raw))
        wanted = [ConceptName(name=name, language=term.language) for name in names]
        async with self._database.connection() as connection:
            meanings = await self._book.resolve_all(connection, scope.bucket, wanted, scope.default_language)
        known = {name for name, meaning in zip(names, meanings, strict=True) if meaning}
        # The vectors of words are loaded at the first word that needs them: not on the event loop.
        reading = await asyncio.to_thread(self._wording.read, term.raw, known.__contains__, self._vectors)
        if not reading.senses:
            raise _unknown(term.raw, reading, self._wording)
        notes.append(_note(reading))
        return [
            ConceptTerm(
                concept=ConceptName(id=sense.concept_id)
                if sense.concept_id
                else ConceptName(name=sense.name, language=term.language),
                value=1.0 if sense.wanted else 0.0,
            )
            for sense in reading.senses
        ]


def _has_text(rank: Rank) -> bool:
    return any(isinstance(term, TextTerm) for term in rank.terms)


def _note(reading: Reading) -> str:
    searched = ", ".join(sense.describe() for sense in reading.senses)
    ignored = f" Ignored, because no concept is near: {_quoted(reading.ignored)}." if reading.ignored else ""
    return f"The base workflow reads no text; searched by concepts instead: {searched}.{ignored}"


def _unknown(text: str, reading: Reading, wording: Wording) -> SearchInvalid:
    near = [name for word in reading.ignored for name in wording.suggestions(word)][:5]
    hint = f" Perhaps one of {', '.join(near)}?" if near else ""
    return SearchInvalid(
        f"{text[:60]!r} names no concept. The base workflow of this app reads no text, so its words were looked up as"
        " names in every language, more general words, other forms, typing mistakes and by meaning."
        f"{hint} PostConceptsSearches finds the names there are."
    )


def _quoted(words: Sequence[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
