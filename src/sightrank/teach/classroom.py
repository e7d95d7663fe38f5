"""What a process has to learn by, and to judge by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sightrank.search.concepts import ConceptBook
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.threads import Threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Classroom:
    """What people said is in the database, under names that the book knows. ``tables``: where the vectors are, by base
    workflow; ``idle``: the workflows that make none.
    """

    database: Database
    book: ConceptBook
    tables: Mapping[str, EmbedderTable]
    idle: Collection[str]
    threads: Threads

    @property
    def workflow_ids(self) -> tuple[str, ...]:
        """The base workflows of the apps that can be served here."""
        return (*self.tables, *self.idle)
