"""What the conditions of a filter are compiled for: whose annotations, of which time, what ``a`` and ``i`` are. No I/O.

Statements call annotations ``a`` and inputs ``i``. An annotation search looks at annotations, an input search at inputs
and, filter by filter, at their annotations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import sql

from sightrank.search.query import ConceptName

ANNOTATION_NUMBER = sql.SQL("a.input_number")
INPUT_NUMBER = sql.SQL("i.number")
_COLUMNS = sql.SQL(
    "bucket, input_number, id, created_at, modified_at, status, input_level, trusted, user_id, model_id,"
    " model_version_id, task_id, concept_ids, concept_values, metadata, latitude, longitude, annotation_info, data"
)
_PAST = sql.SQL(
    "(SELECT {columns}, area_id, NULL::text AS region_id, NULL::real AS box_top FROM annotations"
    " WHERE bucket = {bucket} AND modified_at <= {as_of}{of}"
    " UNION ALL SELECT {columns}, coalesce("
    "(SELECT r.id FROM areas r WHERE r.bucket = {bucket} AND r.id = p.area_id),"
    " (SELECT r.id FROM areas r WHERE r.bucket = {bucket} AND r.input_number = p.input_number"
    " AND r.region_id IS NULL AND r.frame_index IS NULL)), region_id, box_top FROM past_annotations p"
    " WHERE bucket = {bucket} AND modified_at <= {as_of} AND until > {as_of}{of})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """``models``: annotations of models are looked at as well. ``number``: the number of the input in question.
    ``has_input``: the statement has the row ``i``. ``alone``: nothing else is asked of the same annotation. ``few``:
    the statement names its few rows itself, and conditions need not help to find them.
    """

    bucket: int
    concepts: Mapping[ConceptName, tuple[tuple[str, ...], ...]]
    as_of: datetime | None
    models: bool
    number: sql.SQL
    has_input: bool = False
    alone: bool = False
    few: bool = False

    @property
    def has_labels(self) -> bool:
        """Whether the table of labels says what these annotations say of concepts."""
        return self.as_of is None and not self.models

    def on_annotations(self, *, models: bool, alone: bool) -> View:
        """The same for conditions on annotations of the input."""
        return replace(self, number=ANNOTATION_NUMBER, has_input=False, models=models, alone=alone)

    def annotations(
        self, alias: str, *, of: sql.Composable | None = None, among: Sequence[sql.Composable] = ()
    ) -> sql.Composed:
        """The annotations there are, or were at the time, as a table of that name. Of those of the time no more are
        looked at than the ones ``of`` an input, or of inputs that are ``among`` those of each of these queries.
        """
        if self.as_of is None:
            return sql.SQL("annotations {}").format(sql.SQL(alias))
        return sql.SQL("{} {}").format(
            _PAST.format(
                columns=_COLUMNS,
                bucket=sql.Literal(self.bucket),
                as_of=sql.Literal(self.as_of),
                of=sql.SQL("").join(
                    [
                        *([] if of is None else [sql.SQL(" AND input_number = {}").format(of)]),
                        *(sql.SQL(" AND input_number IN ({})").format(query) for query in among),
                    ]
                ),
            ),
            sql.SQL(alias),
        )

    @property
    def now(self) -> View:
        """The same for annotations as they are now."""
        return replace(self, as_of=None)

    def past_inputs(self, condition: sql.Composable) -> sql.Composed:
        """Numbers of the inputs with an annotation ``g``, changed since, of which the condition held at the time."""
        return sql.SQL(
            "SELECT g.input_number FROM past_annotations g WHERE g.bucket = {bucket} AND g.modified_at <= {as_of}"
            " AND g.until > {as_of} AND {condition}"
        ).format(bucket=sql.Literal(self.bucket), as_of=sql.Literal(self.as_of), condition=condition)

    def whose(self) -> sql.Composed:
        """The condition that ``a`` is of this bucket and of those who are listened to."""
        people = sql.SQL("" if self.models else " AND a.model_version_id = ''")
        return sql.SQL("a.bucket = {}{}").format(sql.Literal(self.bucket), people)

    def concept_ids(self, names: list[ConceptName]) -> list[str]:
        """All ids that stand for any of these concepts."""
        return list(dict.fromkeys(id for name in names for ids in self.concepts[name] for id in ids))
