"""The models of an app as whoever runs them sees them: what type, which version, with which parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sightrank.store import queries
from sightrank.store.database import Database

_SQL = queries.load("models")


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnModel:
    """A model of an app in one of its versions, made at ``made_at``. ``version_id`` is '' for a model that has none;
    ``status`` is then that of an untrained one. ``concept_ids``: what it predicts; ``params``: by which an operator
    works; ``visibility`` as the API numbers it.
    """

    bucket: int
    id: str
    name: str
    type_id: str
    version_id: str
    made_at: datetime
    status: int
    concept_ids: tuple[str, ...]
    params: Mapping[str, Any]
    visibility: int


class OwnModels:
    """Models of apps, read anew each time: small rows by their key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, bucket: int, model_id: str, version_id: str = "") -> OwnModel | None:
        """The model in that version, else in its latest trained one, else in its latest; None where there is none."""
        row = await self._database.row(_SQL["find"], {"bucket": bucket, "model_id": model_id, "version_id": version_id})
        if row is None:
            return None
        name, type_id, found_id, made_at, status, concept_ids, params, visibility = row
        return OwnModel(
            bucket=bucket,
            id=model_id,
            name=name,
            type_id=type_id,
            version_id=found_id,
            made_at=made_at,
            status=status,
            concept_ids=tuple(concept_ids),
            params=params,
            visibility=visibility,
        )
