"""Filters to SQL, composed from ``psycopg.sql`` objects. No I/O.

Every statement is about one bucket, names annotations ``a`` and inputs ``i``, and looks at annotations that no model
wrote (api-spec 4.3: raw predictions are not matched by filters). A concept condition must be resolved to ids first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from sightrank.search.query import (
    ConceptCondition,
    ConceptName,
    Condition,
    DatasetCondition,
    FieldCondition,
    Filter,
    Query,
    Unit,
)

INDEXED = 30000

#: FieldCondition.field to the column it compares. A row here is all that a scalar filter needs.
FIELDS: Mapping[str, sql.Composable] = {
    "annotation.id": sql.SQL("a.id"),
    "annotation.input_id": sql.SQL("i.id"),
    "annotation.user_id": sql.SQL("a.user_id"),
    "annotation.task_id": sql.SQL("a.task_id"),
    "annotation.trusted": sql.SQL("a.trusted"),
    "annotation.input_level": sql.SQL("a.input_level"),
    "annotation.status": sql.SQL("a.status"),
    "input.id": sql.SQL("i.id"),
    "input.media": sql.SQL("i.media"),
    "input.status": sql.SQL("i.status"),
}

_JOIN = sql.SQL(
    "annotations a JOIN inputs i ON i.bucket = a.bucket AND i.number = a.input_number"
    " WHERE a.bucket = {bucket} AND i.bucket = {bucket} AND a.model_version_id = ''"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterScope:
    """What SQL needs to know beside the query: the bucket, and what the concepts' names stand for."""

    bucket: int
    concepts: Mapping[ConceptName, tuple[tuple[str, ...], ...]]


def candidates(query: Query, scope: FilterScope) -> sql.Composed:
    """Rows (area_id, input_number, annotation_id) of what the filters leave for the ranks.

    Annotation search: each area with its first surviving annotation. Input search: every area of every surviving input.
    """
    bucket = sql.Literal(scope.bucket)
    if query.unit is Unit.ANNOTATION:
        return sql.SQL(
            "SELECT DISTINCT ON (a.area_id) a.area_id, a.input_number, a.id FROM {join} AND i.status = {indexed}"
            " AND {condition} ORDER BY a.area_id, a.created_at, a.id"
        ).format(
            join=_join(scope), indexed=sql.Literal(INDEXED), condition=_all_on_one_annotation(query.filters, scope)
        )
    return sql.SQL(
        "SELECT r.id, r.input_number, NULL FROM areas r"
        " JOIN inputs i ON i.bucket = r.bucket AND i.number = r.input_number"
        " WHERE r.bucket = {bucket} AND i.bucket = {bucket} AND i.status = {indexed} AND {condition}"
    ).format(bucket=bucket, indexed=sql.Literal(INDEXED), condition=_each_on_some_annotation(query.filters, scope))


def page(query: Query, scope: FilterScope) -> sql.Composed:
    """Rows (input_number, annotation_id) of one page of an unranked search, in order of creation."""
    bucket = sql.Literal(scope.bucket)
    window = sql.SQL(" LIMIT {limit} OFFSET {offset}").format(
        limit=sql.Literal(query.limit), offset=sql.Literal(query.offset)
    )
    if query.unit is Unit.ANNOTATION:
        return sql.SQL(
            "SELECT a.input_number, a.id FROM {join} AND {condition} ORDER BY a.created_at, a.id{window}"
        ).format(join=_join(scope), condition=_all_on_one_annotation(query.filters, scope), window=window)
    return sql.SQL(
        "WITH hits AS MATERIALIZED (SELECT i.number, i.created_at, i.id FROM inputs i WHERE i.bucket = {bucket}"
        " AND {condition} ORDER BY i.created_at, i.id{window})"
        " SELECT hits.number, (SELECT a.id FROM {join} AND a.input_number = hits.number"
        " ORDER BY CASE WHEN {matching} THEN 0 ELSE 1 END, a.created_at, a.id LIMIT 1)"
        " FROM hits ORDER BY hits.created_at, hits.id"
    ).format(
        bucket=bucket,
        condition=_each_on_some_annotation(query.filters, scope),
        window=window,
        join=_join(scope),
        matching=_any_positive(query.filters, scope),
    )


def count(query: Query, scope: FilterScope) -> sql.Composed:
    """One row: how many inputs the filters of an input search leave."""
    return sql.SQL("SELECT count(*) FROM inputs i WHERE i.bucket = {bucket} AND {condition}").format(
        bucket=sql.Literal(scope.bucket), condition=_each_on_some_annotation(query.filters, scope)
    )


def _join(scope: FilterScope) -> sql.Composed:
    return _JOIN.format(bucket=sql.Literal(scope.bucket))


def _all_on_one_annotation(filters: tuple[Filter, ...], scope: FilterScope) -> sql.Composable:
    """Annotation search: one and the same annotation satisfies every filter."""
    parts = [sql.SQL("NOT {}").format(_body(f, scope)) if f.negate else _body(f, scope) for f in filters]
    return _joined(parts, " AND ")


def _each_on_some_annotation(filters: tuple[Filter, ...], scope: FilterScope) -> sql.Composable:
    """Input search: every filter is satisfied by some annotation of the input, or, negated, by none."""
    parts = [
        sql.SQL(
            "{negation}EXISTS (SELECT FROM annotations a WHERE a.bucket = {bucket} AND a.input_number = i.number"
            " AND a.model_version_id = '' AND {body})"
        ).format(
            negation=sql.SQL("NOT " if item.negate else ""), bucket=sql.Literal(scope.bucket), body=_body(item, scope)
        )
        for item in filters
    ]
    return _joined(parts, " AND ")


def _any_positive(filters: tuple[Filter, ...], scope: FilterScope) -> sql.Composable:
    """Whether an annotation is one that a filter asked for; it then represents its input."""
    return _joined([_body(item, scope) for item in filters if not item.negate], " OR ")


def _body(item: Filter, scope: FilterScope) -> sql.Composed:
    groups = [
        sql.SQL("({})").format(_joined([_condition(condition, scope) for condition in group], " OR "))
        for group in item.groups
    ]
    return sql.SQL("({})").format(_joined(groups, " AND "))


def _condition(condition: Condition, scope: FilterScope) -> sql.Composed:
    if isinstance(condition, FieldCondition):
        return sql.SQL("{} = {}").format(FIELDS[condition.field], sql.Literal(condition.value))
    if isinstance(condition, DatasetCondition):
        return sql.SQL(
            "EXISTS (SELECT FROM dataset_inputs d WHERE d.bucket = {bucket} AND d.dataset_id = {dataset}"
            " AND d.input_number = i.number)"
        ).format(bucket=sql.Literal(scope.bucket), dataset=sql.Literal(condition.dataset_id))
    return _concept(condition, scope)


def _concept(condition: ConceptCondition, scope: FilterScope) -> sql.Composed:
    return sql.SQL(
        "EXISTS (SELECT FROM labels l WHERE l.bucket = {bucket} AND l.concept_id = ANY({concepts})"
        " AND l.area_id = a.area_id AND l.annotation_id = a.id AND l.value {comparison} 0.5)"
    ).format(
        bucket=sql.Literal(scope.bucket),
        concepts=sql.Literal([concept_id for ids in scope.concepts[condition.concept] for concept_id in ids]),
        comparison=sql.SQL(">=" if condition.positive else "<"),
    )


def _joined(parts: list[sql.Composed], operator: str) -> sql.Composable:
    if not parts:
        return sql.SQL("true")
    return sql.SQL(" AND " if operator == " AND " else " OR ").join(parts)
