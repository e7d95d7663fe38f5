"""The models of an app as whoever runs them sees them: what type, which version, with which parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
        return (await self.find_all(bucket, [(model_id, version_id)])).get((model_id, version_id))

    async def find_all(self, bucket: int, asked: Iterable[tuple[str, str]]) -> dict[tuple[str, str], OwnModel]:
        """As ``find``, of several (model id, version id), by what was asked for; those that there are."""
        pairs = sorted(set(asked))
        if not pairs:
            return {}
        model_ids, version_ids = zip(*pairs, strict=True)
        keys = {"bucket": bucket, "model_ids": list(model_ids), "version_ids": list(version_ids)}
        return {
            (model_id, asked_id): OwnModel(
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
            for (
                model_id,
                asked_id,
                name,
                type_id,
                found_id,
                made_at,
                status,
                concept_ids,
                params,
                visibility,
            ) in await self._database.rows(_SQL["find"], keys)
        }
