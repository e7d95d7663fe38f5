"""Which annotations a list asks for: the selectors of ListAnnotations as conditions over the indexes (api-spec 3.3)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from clarifai_grpc.grpc.api import service_pb2
from psycopg import sql

from sightrank.api.pages import Page
from sightrank.errors import InvalidRequest
from sightrank.store import queries

_SQL = queries.load("annotations")
#: Both are spelled as the indexes' own conditions are.
_BY_PEOPLE: LiteralString = "model_version_id = ''"
_BY_MODELS: LiteralString = "model_version_id <> ''"
_BRANCH = sql.SQL(
    "SELECT * FROM annotations WHERE bucket = %(bucket)s AND {conditions} ORDER BY created_at DESC, id DESC"
)
_CHOSEN = sql.SQL("SELECT * FROM (({branches})) selected ORDER BY created_at DESC, id DESC")
_OF_INPUTS: LiteralString = (
    "input_number IN (SELECT number FROM inputs WHERE bucket = %(bucket)s AND id = ANY(%(input_ids)s))"
)
_OF_PAIRS: LiteralString = (
    "(input_number, id) IN (SELECT i.number, pair.id FROM unnest(%(input_ids)s::text[], %(ids)s::text[])"
    " AS pair (input_id, id) JOIN inputs i ON i.id = pair.input_id WHERE i.bucket = %(bucket)s)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Selectors that are all satisfied; None, and no statuses and no task, select nothing away.

    ``user_ids`` and ``model_version_ids`` are one selector, their union. Without it only people's annotations are
    selected, unless ``all_workers``.
    """

    input_ids: Sequence[str] | None
    ids: Sequence[str] | None
    user_ids: Sequence[str] | None
    model_version_ids: Sequence[str] | None
    statuses: Sequence[int]
    task_id: str
    all_workers: bool

    @classmethod
    def parse(cls, request: service_pb2.ListAnnotationsRequest, *, me: str) -> Selection:
        """``me`` is the caller, whom a request may call so."""
        input_ids: Sequence[str] | None = storable(request.input_ids) if request.input_ids else None
        ids: Sequence[str] | None = storable(request.ids) if request.ids else None
        if request.input_ids and request.ids:
            pairs = storable_pairs(zip(request.input_ids, request.ids, strict=True))
            input_ids, ids = [input_id for input_id, _ in pairs], [name for _, name in pairs]
        # A workflow has the version of the model whose predictions it writes.
        versions = [*request.model_version_ids, *request.workflow_version_ids]
        return cls(
            input_ids=input_ids,
            ids=ids,
            user_ids=storable(me if name == "me" else name for name in request.user_ids) if request.user_ids else None,
            model_version_ids=storable(versions) if versions else None,
            statuses=sorted({status.code for status in request.statuses} - {0}),
            task_id=request.task_id,
            all_workers=bool(request.list_all_annotations or request.ids),
        )

    def statement(self, bucket: int, page: Page) -> tuple[sql.Composed, dict[str, Any]]:
        """Rows as AnnotationRecord, newest first, and their parameters.

        Each kind of worker is read from its own index, in the order of the list and no further than the page can reach;
        what is asked of all is asked of each.
        """
        parameters: dict[str, Any] = {"bucket": bucket}
        common = self._common(parameters)
        reach = Page(1, page.offset + page.per_page)
        branches = [
            reach.limit(_BRANCH.format(conditions=sql.SQL(" AND ").join([*worker, *common])))
            for worker in self._workers(parameters)
        ]
        chosen = page.limit(_CHOSEN.format(branches=sql.SQL(") UNION ALL (").join(branches)))
        return sql.SQL(_SQL["list"]).format(annotations=chosen), parameters

    def _common(self, parameters: dict[str, Any]) -> list[sql.SQL]:
        conditions: list[sql.SQL] = []
        if self.input_ids is not None:
            parameters["input_ids"] = self.input_ids
            conditions.append(sql.SQL(_OF_INPUTS if self.ids is None else _OF_PAIRS))
        elif self.ids is not None:
            conditions.append(sql.SQL("id = ANY(%(ids)s)"))
        if self.ids is not None:
            parameters["ids"] = self.ids
        if self.statuses:
            conditions.append(_one_of("status", "statuses", self.statuses, parameters))
        if self.task_id:
            parameters["task_id"] = self.task_id
            conditions.append(sql.SQL("task_id = %(task_id)s AND task_id <> ''"))
        return conditions

    def _workers(self, parameters: dict[str, Any]) -> list[list[sql.SQL]]:
        """The conditions of each branch of the union; no annotation is in two."""
        people, models = sql.SQL(_BY_PEOPLE), sql.SQL(_BY_MODELS)
        branches: list[list[sql.SQL]] = []
        if self.user_ids is not None:
            branches.append([people, _one_of("user_id", "user_ids", self.user_ids, parameters)])
        if self.model_version_ids is not None:
            column: LiteralString = "model_version_id"
            branches.append([models, _one_of(column, "model_version_ids", self.model_version_ids, parameters)])
        if branches:
            return branches
        return [[people], [models]] if self.all_workers else [[people]]


def check_pairs(ids: Sequence[str], input_ids: Sequence[str]) -> None:
    """Raises InvalidRequest for lists that are to be paired and cannot be."""
    if ids and input_ids and len(ids) != len(input_ids):
        raise InvalidRequest(f"ids has {len(ids)} items and input_ids {len(input_ids)}; they pair one to one.")


def storable(ids: Iterable[str]) -> list[str]:
    """Ids that the database can hold: no other names anything."""
    return [name for name in ids if "\x00" not in name]


def storable_pairs(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [pair for pair in pairs if len(storable(pair)) == len(pair)]


def _one_of(column: LiteralString, name: LiteralString, values: Sequence[Any], parameters: dict[str, Any]) -> sql.SQL:
    """One value is compared as such: then an index on the column gives the rows in the order of the list."""
    parameters[name] = values[0] if len(values) == 1 else values
    return sql.SQL(f"{column} = %({name})s" if len(values) == 1 else f"{column} = ANY(%({name})s)")
