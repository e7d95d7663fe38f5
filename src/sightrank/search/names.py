"""What the concepts of a search mean, looked up once for each version of its app."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Set

from sightrank.search.concepts import ConceptBook, Meaning
from sightrank.search.query import ConceptName
from sightrank.search.versions import Versions
from sightrank.store.database import Database

_KEPT = 4096

Meanings = Mapping[ConceptName, Meaning]


class NameBook:
    """Meanings of names, each good for the version that was known before it was read: like candidates, they are given
    only to searches that are to be as of that version, and every commit that changes concepts raises it.
    """

    def __init__(self, database: Database, book: ConceptBook) -> None:
        self._database = database
        self._book = book
        self._kept: OrderedDict[tuple[int, str, frozenset[ConceptName]], tuple[int, Meanings]] = OrderedDict()

    def known(self, bucket: int, language: str, names: Set[ConceptName], versions: Versions | None) -> Meanings | None:
        """What is known as of ``versions`` without the database."""
        if not names:
            return {}
        key = (bucket, language, frozenset(names))
        kept = self._kept.get(key)
        if kept is None or versions is None or kept[0] != versions.all:
            return None
        self._kept.move_to_end(key)
        return kept[1]

    async def read(self, bucket: int, language: str, names: Set[ConceptName], seen: Versions | None) -> Meanings:
        """What the names mean now. ``seen``: the versions that were known before."""
        if not names:
            return {}
        ordered = list(names)
        async with self._database.connection() as connection:
            ids = await self._book.resolve_all(connection, bucket, ordered, language)
        meanings = dict(zip(ordered, ids, strict=True))
        # That a name means nothing leads to a refusal, which nobody checks against the version any more: not kept.
        if seen is not None and all(meanings.values()):
            self._kept[bucket, language, frozenset(names)] = (seen.all, meanings)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return meanings
