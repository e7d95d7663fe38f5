"""Concepts by id and by name: the rules that inputs, annotations and searches share (api-spec 3.4 and 4.4).

A concept is the app's own or one of the public vocabulary. An id is looked for among both; a name in a language finds
all that are so called, own and public. Writing about a concept makes it the app's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sightrank.errors import ConceptsInvalid, DoesNotExist, quoted
from sightrank.search.query import ConceptName
from sightrank.store.database import Connection
from sightrank.store.queries import load
from sightrank.vision.vocabulary import ENGLISH, Vocabulary, fold

MAX_ID_CHARACTERS = 128
MAX_NAME_CHARACTERS = 500
_MAX_INDEXED_BYTES = 2000


#: What a reference stands for: one entry for each concept, with all the ids under which it goes (the public one first).
Meaning = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class NewConcepts:
    """Columns of concepts to insert, in the posted order."""

    ids: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)

    def add(self, concept_id: str, name: str, definition: str = "") -> None:
        self.ids.append(concept_id)
        self.names.append(name)
        self.folded.append(fold(name))
        self.definitions.append(definition)

    def parameters(self, bucket: int) -> dict[str, object]:
        return {
            "bucket": bucket,
            "ids": self.ids,
            "names": self.names,
            "folded": self.folded,
            "definitions": self.definitions,
        }


@dataclass(frozen=True, slots=True)
class _Found:
    """What a look-up brought: the own ids that were asked for, own ones by (language, folded name), and the folded name
    of each in the app's language, which is also the language "".
    """

    ids: frozenset[str]
    named: Mapping[tuple[str, str], Sequence[str]]
    own_names: Mapping[str, str]


class ConceptBook:
    """Own concepts in the database and public ones in the vocabulary, as one book."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._sql = load("concepts")

    async def ensure_concepts(self, connection: Connection, bucket: int, pairs: Sequence[tuple[str, str]]) -> list[str]:
        """The ids of these concepts ((id, name), either may be empty), in their order; missing ones are made.

        Runs inside the caller's transaction. A name alone finds the app's concept of that name, else takes the public
        concept so called in English, else becomes an id. A known id keeps its name. Raises ConceptsInvalid for a
        concept with neither id nor name, DoesNotExist when the app is gone.
        """
        if not pairs:
            return []
        for concept_id, name in pairs:
            check_concept(concept_id, name)
        wanted_ids = {concept_id for concept_id, _ in pairs if concept_id} | {
            id for concept_id, name in pairs if not concept_id for id in self._ids_of_name(name)
        }
        names = {fold(name) for concept_id, name in pairs if not concept_id}
        parameters = {"bucket": bucket, "ids": sorted(wanted_ids), "names": sorted(names)}
        rows = await (await connection.execute(self._sql["known"], parameters)).fetchall()
        known = {id for _, _, id in rows}
        by_name = {key: id for by_id, key, id in rows if not by_id}
        ids = [concept_id or self._id_for_name(name, by_name) for concept_id, name in pairs]
        missing = {id: name for id, (_, name) in zip(reversed(ids), reversed(pairs), strict=True) if id not in known}
        if missing:
            await self._create(connection, bucket, dict(reversed(missing.items())))
        return ids

    async def resolve_all(
        self, connection: Connection, bucket: int, refs: Sequence[ConceptName], default_language: str
    ) -> list[Meaning]:
        """What each reference means, in one round trip (api-spec 4.4); empty for one that means nothing.

        An id is an own or public concept, else it is read as a name. A name means every own and every public concept so
        called in the reference's language, else in the app's language, else in English. An own concept and the public
        one of the same name in the app's language are one: who labels with "dog" and searches for 犬 means one thing.
        """
        if not refs:
            return []
        texts = {text for ref in refs for text in (ref.id, ref.name) if text and "\0" not in text}
        spoken = {ref.language for ref in refs if ref.language} | {default_language, ENGLISH}
        parameters = {
            "bucket": bucket,
            "ids": sorted({ref.id for ref in refs if ref.id and "\0" not in ref.id}),
            "names": sorted({fold(text) for text in texts} | self._namesakes(texts, spoken, default_language)),
            "languages": sorted(spoken - {default_language}),
        }
        rows = await (await connection.execute(self._sql["lookup"], parameters)).fetchall()
        found = _found(rows)
        return [self._joined(self._meant(ref, found, default_language), found, default_language) for ref in refs]

    async def insert(self, connection: Connection, bucket: int, new: NewConcepts) -> list[tuple[object, ...]]:
        """Inserts what is not there yet; the rows made, without order. Raises DoesNotExist when the app is gone."""
        rows = await (await connection.execute(self._sql["insert"], new.parameters(bucket))).fetchall()
        if len(rows) < len(new.ids):
            alive = await (await connection.execute(self._sql["bucket"], {"bucket": bucket})).fetchone()
            if alive is None:
                raise DoesNotExist("The app of this call has just been deleted.")
        return rows

    async def _create(self, connection: Connection, bucket: int, names: Mapping[str, str]) -> None:
        new = NewConcepts()
        for concept_id, name in names.items():
            term = self.vocabulary.get(concept_id)
            new.add(concept_id, name or (term.name if term else concept_id), term.definition if term else "")
        await self.insert(connection, bucket, new)

    def _ids_of_name(self, name: str) -> tuple[str, ...]:
        """Ids that a name alone may turn into, to be looked up with the others."""
        return (*self.vocabulary.by_name(name)[:1], name)

    def _id_for_name(self, name: str, by_name: Mapping[str, str]) -> str:
        return by_name.get(fold(name)) or next(iter(self._ids_of_name(name)))

    def _namesakes(self, texts: Iterable[str], languages: Iterable[str], default_language: str) -> set[str]:
        """The folded names that own concepts would share with the public ones these texts may mean."""
        public = {text for text in texts if text in self.vocabulary}
        public |= {id for text in texts for language in languages for id in self.vocabulary.translated(text, language)}
        return {fold(self.vocabulary.name(id, default_language)) for id in public}

    def _joined(self, ids: Sequence[str], found: _Found, default_language: str) -> Meaning:
        """These concepts, each with the own and public ones that are the same."""
        namesakes: dict[str, list[str]] = {}
        for own in found.own_names:
            namesakes.setdefault(self._public_id(own, found, default_language), []).append(own)
        keys = dict.fromkeys(self._public_id(id, found, default_language) for id in ids)
        return tuple(tuple(dict.fromkeys((key, *namesakes.get(key, ())))) for key in keys)

    def _public_id(self, id: str, found: _Found, default_language: str) -> str:
        """The public concept that this one is, by id or by its name in the app's language; else itself."""
        if id in self.vocabulary or id not in found.own_names:
            return id
        name = found.own_names[id]
        return next(
            # "Gift" in German is no gift: an English name counts only for a concept without one in the app's language.
            (
                public
                for public in self.vocabulary.by_name(name, default_language)
                if fold(self.vocabulary.name(public, default_language)) == name
            ),
            id,
        )

    def _meant(self, ref: ConceptName, found: _Found, default_language: str) -> tuple[str, ...]:
        if ref.id in found.ids or ref.id in self.vocabulary:
            return (ref.id,)
        for text in (ref.id, ref.name):
            ids = self._called(text, ref.language or default_language, found, default_language) if text else ()
            if ids:
                return ids
        return ()

    def _called(self, name: str, language: str, found: _Found, default_language: str) -> tuple[str, ...]:
        folded = fold(name)
        for spoken in dict.fromkeys((language, default_language, ENGLISH)):
            own = found.named.get(("" if spoken == default_language else spoken, folded), ())
            ids = tuple(dict.fromkeys((*own, *self.vocabulary.translated(name, spoken))))
            if ids:
                return ids
        return ()


def check_concept(concept_id: str, name: str) -> None:
    """Raises ConceptsInvalid for a concept that names nothing or cannot be stored."""
    if not concept_id.strip() and not name.strip():
        raise ConceptsInvalid("A concept has neither id nor name; give it one of them.")
    if "\0" in concept_id + name:
        raise ConceptsInvalid("A concept's id or name holds a NUL character, which cannot be stored; remove it.")
    if not concept_id and len(name) > MAX_ID_CHARACTERS:
        raise ConceptsInvalid(
            f"A concept without an id has its name as id, and {quoted(name)} is too long for one; {MAX_ID_CHARACTERS}"
            " is the limit. Give a short id beside the name."
        )
    if len(concept_id) > MAX_ID_CHARACTERS:
        raise ConceptsInvalid(
            f"The concept id {quoted(concept_id)} is too long; {MAX_ID_CHARACTERS} is the limit. Give a short id, and"
            " the long text as name."
        )
    if len(name) > MAX_NAME_CHARACTERS or len(fold(name).encode("utf-8", "replace")) > _MAX_INDEXED_BYTES:
        raise ConceptsInvalid(
            f"The name of concept {concept_id or name:.40} is too long: {MAX_NAME_CHARACTERS} characters is the limit."
        )


def _found(rows: Sequence[Sequence[str]]) -> _Found:
    named: dict[tuple[str, str], list[str]] = {}
    for kind, language, key, id, _ in rows:
        if kind == "name":
            named.setdefault((language, key), []).append(id)
    ids = frozenset(id for kind, _, _, id, _ in rows if kind == "id")
    return _Found(ids, named, {id: own_name for _, _, _, id, own_name in rows})
