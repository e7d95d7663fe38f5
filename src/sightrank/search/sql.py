"""Filters to SQL, composed from ``psycopg.sql`` objects. No I/O.

Every statement is about one bucket, names annotations ``a`` and inputs ``i``, and looks at annotations that no model
wrote, unless a filter asks for a model's (api-spec 4.3). A concept condition must be resolved to ids first. All
statements honour the time of the query.

A filter by concepts is a join with ``labels`` along its foreign key: only so PostgreSQL knows how many rows to expect,
and reads a common concept in the order of the hits until the page is full, and a rare one from its labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from psycopg import sql

from sightrank.search.conditions import all_of, any_of, is_one_label, labels
from sightrank.search.fields import Subject, field_of
from sightrank.search.query import ConceptCondition, ConceptName, Condition, Filter, Query, Unit
from sightrank.search.view import ANNOTATION_NUMBER, INPUT_NUMBER, View

INDEXED = 30000
_AREA_NUMBER = sql.SQL("r.input_number")
Group = tuple[Condition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterScope:
    """What SQL needs to know beside the query: the bucket, and what the concepts' names stand for."""

    bucket: int
    concepts: Mapping[ConceptName, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """Tables, the first of them ``a``, and the conditions on their rows. ``repeats``: one annotation may be several
    rows. ``of_labels``: ``a`` has no more columns than labels tell of annotations.
    """

    tables: list[sql.Composable] = field(default_factory=list)
    conditions: list[sql.Composable] = field(default_factory=list)
    repeats: bool = False
    of_labels: bool = False

    def where(self, *more: sql.Composable) -> sql.Composed:
        return sql.SQL("{} WHERE {}").format(sql.SQL(" JOIN ").join(self.tables), all_of([*self.conditions, *more]))


# Statements ---------------------------------------------------------------------------------------


def candidates(query: Query, scope: FilterScope, *, at_most: int | None = None) -> sql.Composed:
    """Rows (area_id, input_number, annotation_id) of what the filters leave for the ranks, of indexed inputs.

    Annotation search: each area with its first surviving annotation. Input search: every area of every surviving input,
    without an annotation. ``at_most``: no more rows than that, whichever they are.
    """
    found = _survivors(query, scope, ())
    return found if at_most is None else sql.SQL("{} LIMIT {}").format(found, sql.Literal(at_most))


def surviving(query: Query, scope: FilterScope, numbers: Sequence[int]) -> sql.Composed:
    """The rows of ``candidates`` for these area ids (annotation search) or input numbers (input search)."""
    area = "r.id" if _chooses_inputs(query) else "a.area_id"
    named = sql.SQL("r.input_number" if query.unit is Unit.INPUT else area)
    among = sql.SQL("{} = ANY({}::bigint[])").format(named, sql.Literal(list(numbers)))
    return _survivors(query, scope, (among,))


def page(query: Query, scope: FilterScope) -> sql.Composed:
    """Rows (input_number, annotation_id) of one page of an unranked search, in order of creation.

    An input search names, with each input, the first annotation that a filter asked for, else the first of all; null
    when it had none at the time of the query.
    """
    window = sql.SQL("LIMIT {} OFFSET {}").format(sql.Literal(query.limit), sql.Literal(query.offset))
    if query.unit is Unit.ANNOTATION:
        rows = _on_one_annotation(query, scope, of_labels=False)
        once = sql.SQL("DISTINCT ON (a.created_at, a.id, a.input_number) " if rows.repeats else "")
        return sql.SQL(
            "SELECT {once}a.input_number, a.id FROM {rows} ORDER BY a.created_at, a.id, a.input_number {window}"
        ).format(once=once, rows=rows.where(), window=window)
    view = _view(query, scope, number=INPUT_NUMBER, has_input=True)
    return sql.SQL(
        "WITH hits AS MATERIALIZED (SELECT i.number, i.created_at, i.id FROM inputs i WHERE {condition}"
        " ORDER BY i.created_at, i.id {window})"
        " SELECT hits.number, (SELECT a.id FROM {annotations} WHERE {whose} AND a.input_number = hits.number"
        " ORDER BY {witness}, a.created_at, a.id LIMIT 1)"
        " FROM hits ORDER BY hits.created_at, hits.id"
    ).format(
        condition=_on_inputs(query, view),
        window=window,
        annotations=view.annotations("a", of=sql.SQL("hits.number")),
        whose=replace(view, models=any(map(_opens, query.filters))).whose(),
        witness=_witness(query, view),
    )


def count(query: Query, scope: FilterScope) -> sql.Composed:
    """One row: how many inputs, or annotations, the filters leave."""
    if query.unit is Unit.INPUT:
        view = _view(query, scope, number=INPUT_NUMBER, has_input=True)
        return sql.SQL("SELECT count(*) FROM inputs i WHERE {}").format(_on_inputs(query, view))
    rows = _on_one_annotation(query, scope, of_labels=True)
    once = sql.SQL("DISTINCT " if rows.repeats else "")
    return sql.SQL("SELECT count(*) FROM (SELECT {once}a.input_number, a.id FROM {rows}) found").format(
        once=once, rows=rows.where()
    )


def labels_as_of(bucket: int, concept_ids: Sequence[str], as_of: datetime) -> sql.Composed:
    """Rows (area_id, value): the latest trusted label on each area as of then, of any of these concepts."""
    view = View(bucket=bucket, concepts={}, as_of=as_of, models=False, number=ANNOTATION_NUMBER)
    ids = sql.SQL("{}::text[]").format(sql.Literal(list(concept_ids)))
    labelled = sql.SQL(
        "SELECT l.input_number FROM labels l WHERE l.bucket = {} AND l.concept_id = ANY({}) UNION {}"
    ).format(sql.Literal(bucket), ids, view.past_inputs(sql.SQL("g.concept_ids && {}").format(ids)))
    return sql.SQL(
        "SELECT DISTINCT ON (a.area_id) a.area_id, c.value FROM {annotations}"
        " CROSS JOIN LATERAL unnest(a.concept_ids, a.concept_values) c (id, value)"
        " WHERE {whose} AND a.trusted AND a.concept_ids && {ids} AND c.id = ANY({ids})"
        " ORDER BY a.area_id, a.modified_at DESC, a.id DESC, c.value DESC"
    ).format(annotations=view.annotations("a", among=[labelled]), whose=view.whose(), ids=ids)


def asks_for_models(query: Query) -> bool:
    """Whether annotations of models are looked at, because a filter asks for some."""
    return any(map(_opens, query.filters))


def _survivors(query: Query, scope: FilterScope, among: tuple[sql.Composable, ...]) -> sql.Composed:
    bucket = sql.Literal(scope.bucket)
    # A search without filters is here for its time: every area of then survives, whoever spoke of it. So does every
    # area of an input where nothing is asked of annotations.
    if query.unit is Unit.INPUT or _chooses_inputs(query):
        view = _view(query, scope, number=_AREA_NUMBER, few=bool(among))
        parts = [_on_input(item, view) for item in query.filters]
        return sql.SQL("SELECT r.id, r.input_number, NULL::text FROM areas r WHERE r.bucket = {bucket} AND {}").format(
            all_of([*among, *_of_then(query, "r"), *parts, _is_indexed(view)]), bucket=bucket
        )
    rows = _on_one_annotation(query, scope, of_labels=True, few=bool(among))
    found = rows.where(*among, _is_indexed(_view(query, scope, number=ANNOTATION_NUMBER)))
    if not rows.of_labels:
        return sql.SQL(
            "SELECT DISTINCT ON (a.area_id) a.area_id, a.input_number, a.id FROM {}"
            " ORDER BY a.area_id, a.created_at, a.id"
        ).format(found)
    # Labels do not tell when their annotation was made; it matters only where an area has several.
    return sql.SQL(
        "SELECT s.area_id, s.input_number, CASE WHEN s.rows = 1 THEN s.id ELSE (SELECT x.id FROM annotations x"
        " WHERE x.bucket = {bucket} AND x.input_number = s.input_number AND x.id = ANY(s.ids)"
        " ORDER BY x.created_at, x.id LIMIT 1) END FROM (SELECT a.area_id, min(a.input_number) AS input_number,"
        " (array_agg(a.id))[1] AS id, array_agg(a.id) AS ids, count(*) AS rows FROM {found} GROUP BY a.area_id) s"
    ).format(bucket=bucket, found=found)


def _is_indexed(view: View) -> sql.Composed:
    """Whether the input in question is: asked the other way round, because few are not, and every input there is."""
    return sql.SQL(
        "NOT EXISTS (SELECT FROM inputs n WHERE n.bucket = {bucket} AND n.number = {number}"
        " AND (n.status < {indexed} OR n.status > {indexed}))"
    ).format(bucket=sql.Literal(view.bucket), number=view.number, indexed=sql.Literal(INDEXED))


# Annotation searches ------------------------------------------------------------------------------


def _on_one_annotation(query: Query, scope: FilterScope, *, of_labels: bool, few: bool = False) -> _Rows:
    """Annotations that satisfy every filter. ``of_labels`` allows ``a`` to be made of labels where those suffice."""
    view = _view(query, scope, number=ANNOTATION_NUMBER, models=any(map(_opens, query.filters)), few=few)
    wanted = [group for item in query.filters if not item.negate for group in item.groups]
    conditions = [_negated(item.groups, view) for item in query.filters if item.negate]
    by_labels = [group for group in wanted if view.has_labels and _is_of_concepts(group)]
    rest = [group for group in wanted if group not in by_labels]
    suffices = of_labels and by_labels and all(map(_needs_labels_only, (g for f in query.filters for g in f.groups)))
    conditions += [_group(group, view) for group in rest]
    tables: list[sql.Composable] = []
    for i, group in enumerate(by_labels):
        alias = f"l{i}"
        said = labels(group, view, alias)  # type: ignore[arg-type]
        if suffices and i == 0:
            tables.append(_labels_as_annotations(said))
            continue
        tables.append(
            sql.SQL(
                "labels {alias} ON {alias}.bucket = a.bucket AND {alias}.input_number = a.input_number"
                " AND {alias}.annotation_id = a.id"
            ).format(alias=sql.SQL(alias))
        )
        conditions.append(said)
    if not suffices:
        tables.insert(0, _annotations(wanted, view))
        conditions.insert(0, view.whose())
    return _Rows(
        tables=tables,
        conditions=conditions,
        repeats=not all(is_one_label(group, view) for group in by_labels),  # type: ignore[arg-type]
        of_labels=bool(suffices),
    )


def _annotations(wanted: Sequence[Group], view: View) -> sql.Composable:
    """All annotations; of another time those of inputs that can have what is wanted, as far as an index tells."""
    if view.as_of is None or view.few:
        return view.annotations("a")
    likely = (_likely(group, view) for group in wanted)
    return view.annotations("a", among=[query for query in likely if query is not None])


def _likely(group: Group, view: View) -> sql.Composable | None:
    """Inputs that may have at another time what the group wants: a query, if an index serves it."""
    rows = {field_of(condition).path: field_of(condition) for condition in group}
    find = next(iter(rows.values())).likely
    if len({row.likely for row in rows.values()}) > 1 or find is None or (view.models and _is_of_concepts(group)):
        return None
    return find(_values(group), view)


def _labels_as_annotations(said: sql.Composable) -> sql.Composed:
    return sql.SQL(
        "(SELECT l0.bucket, l0.input_number, l0.annotation_id AS id, l0.area_id FROM labels l0 WHERE {}) a"
    ).format(said)


# Input searches -----------------------------------------------------------------------------------


def _on_inputs(query: Query, view: View) -> sql.Composable:
    bucket = sql.SQL("i.bucket = {}").format(sql.Literal(view.bucket))
    return all_of([bucket, *_of_then(query, "i"), *(_on_input(item, view) for item in query.filters)])


def _of_then(query: Query, alias: str) -> list[sql.Composable]:
    """With ``as_of``, that an input or area was there already: what came later is no part of an answer as of then."""
    if query.as_of is None:
        return []
    return [sql.SQL("{}.created_at <= {}").format(sql.SQL(alias), sql.Literal(query.as_of))]


def _on_input(item: Filter, view: View) -> sql.Composable:
    """Some annotation of the input satisfies the filter, or, negated, none does."""
    of_input = [group for group in item.groups if not _is_about_annotations(group)]
    of_annotation = [group for group in item.groups if _is_about_annotations(group)]
    parts = [_group(group, view) for group in of_input]
    # Every input has an annotation, its own; but at another time it may have had none.
    if of_annotation or view.as_of is not None:
        parts.append(_some_annotation(item, of_annotation, view))
    if view.as_of is not None and not view.few and not item.negate:
        likely = (_likely(group, replace(view, models=_opens(item))) for group in of_annotation)
        parts += [sql.SQL("{} IN ({})").format(view.number, query) for query in likely if query is not None]
    return sql.SQL("NOT ({})").format(all_of(parts)) if item.negate else all_of(parts)


def _some_annotation(item: Filter, groups: Sequence[Group], view: View) -> sql.Composable:
    its = view.on_annotations(models=_opens(item), alone=len(groups) == 1)
    if its.has_labels and len(groups) == 1 and _is_of_concepts(groups[0]):
        said = labels(groups[0], its, "l")  # type: ignore[arg-type]
        return sql.SQL("EXISTS (SELECT FROM labels l WHERE l.input_number = {} AND {})").format(view.number, said)
    return sql.SQL("EXISTS (SELECT FROM {annotations} WHERE {whose} AND a.input_number = {number} AND {said})").format(
        annotations=its.annotations("a", of=view.number),
        whose=its.whose(),
        number=view.number,
        said=all_of([_group(group, its) for group in groups]),
    )


def _witness(query: Query, view: View) -> sql.Composable:
    """Orders the annotations of a hit: those that a filter asked for, then those of people."""
    asked = []
    for item in query.filters:
        its = replace(view, few=True).on_annotations(models=_opens(item), alone=False)
        if not item.negate:
            groups = [_group(group, its) for group in item.groups if _is_about_annotations(group)]
            asked.append(sql.SQL("({})").format(all_of([its.whose(), *groups])))
    return sql.SQL("CASE WHEN {} THEN 0 WHEN a.model_version_id = '' THEN 1 ELSE 2 END").format(any_of(asked))


# Filters ------------------------------------------------------------------------------------------


def _view(
    query: Query,
    scope: FilterScope,
    *,
    number: sql.SQL,
    has_input: bool = False,
    models: bool = False,
    few: bool = False,
) -> View:
    return View(
        bucket=scope.bucket,
        concepts=scope.concepts,
        as_of=query.as_of,
        models=models,
        number=number,
        has_input=has_input,
        few=few,
    )


def _negated(groups: Sequence[Group], view: View) -> sql.Composable:
    """The opposite of all groups; what is null, for there is nothing to compare, does not satisfy them."""
    body = all_of([_group(group, view) for group in groups])
    if any(field_of(condition).nullable for group in groups for condition in group):
        return sql.SQL("({}) IS NOT TRUE").format(body)
    return sql.SQL("NOT ({})").format(body)


def _group(group: Group, view: View) -> sql.Composable:
    """Any of the conditions of a group; those on one field are made into one."""
    rows = {field_of(condition).path: field_of(condition) for condition in group}
    found = any_of(
        [
            row.compile(_values([condition for condition in group if field_of(condition) is row]), view)
            for row in rows.values()
        ]
    )
    if view.has_input or any(row.subject is not Subject.INPUT for row in rows.values()):
        return found
    return sql.SQL("EXISTS (SELECT FROM inputs i WHERE i.bucket = {} AND i.number = {} AND {})").format(
        sql.Literal(view.bucket), view.number, found
    )


def _values(group: Sequence[Condition]) -> list[object]:
    """What the conditions want, as their field reads it."""
    return [condition if isinstance(condition, ConceptCondition) else condition.value for condition in group]


def _is_about_annotations(group: Group) -> bool:
    return any(field_of(condition).subject is Subject.ANNOTATION for condition in group)


def _chooses_inputs(query: Query) -> bool:
    """Whether the filters ask for inputs, and for nothing that one of their annotations says and another does not."""
    return not any(_is_about_annotations(group) for item in query.filters for group in item.groups)


def _is_of_concepts(group: Group) -> bool:
    return all(isinstance(condition, ConceptCondition) for condition in group)


def _needs_labels_only(group: Group) -> bool:
    return _is_of_concepts(group) or not _is_about_annotations(group)


def _opens(item: Filter) -> bool:
    """Whether the filter asks for annotations of models."""
    return not item.negate and any(field_of(condition).opens for group in item.groups for condition in group)
