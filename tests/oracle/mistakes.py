"""Small mistakes, made on purpose, of those who read filters, compose SQL and remember the past.

``ranking_mistakes`` has those of the engine.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from psycopg import sql as pg

from sightrank.search import conditions, contents, fields, filters, geo, legacy, parse, sql, view
from sightrank.search.concepts import ConceptBook
from sightrank.search.query import ConceptCondition, Filter, GeoBox, Query, Unit

Mistake = Callable[[pytest.MonkeyPatch], None]
_COMPOSERS = (conditions, geo, sql, view)


class _Rewritten:
    """``psycopg.sql``, but for one word of every statement."""

    def __init__(self, old: str, new: str) -> None:
        self._old = old
        self._new = new

    def __getattr__(self, name: str) -> Any:
        return getattr(pg, name)

    def SQL(self, text: str) -> pg.SQL:  # noqa: N802
        return pg.SQL(text.replace(self._old, self._new))  # type: ignore[arg-type]


def in_sql(old: str, new: str) -> Mistake:
    """``new`` for ``old`` in the SQL that the search composes."""

    def mistake(patch: pytest.MonkeyPatch) -> None:
        places = [module for module in _COMPOSERS if old in inspect.getsource(module)]
        assert places, f"{old!r} is in no statement any more; make another mistake"
        for module in places:
            patch.setattr(module, "sql", _Rewritten(old, new))

    return mistake


def in_history(old: str, new: str) -> Mistake:
    """``new`` for ``old`` in the relation of what annotations said at a time."""

    def mistake(patch: pytest.MonkeyPatch) -> None:
        text = view._PAST._obj
        assert old in text, f"{old!r} is not in the relation any more; make another mistake"
        patch.setattr(view, "_PAST", pg.SQL(text.replace(old, new)))

    return mistake


def in_field(path: str, **changes: Any) -> Mistake:
    """A row of the table of fields with other columns."""
    return lambda patch: patch.setitem(fields.FIELDS, path, replace(fields.FIELDS[path], **changes))  # type: ignore[arg-type]


def instead(owner: Any, name: str, make: Callable[[Any], Any]) -> Mistake:
    """What ``make`` makes of a function, in its place."""
    original = getattr(owner, name)
    return lambda patch: patch.setattr(owner, name, make(original))


# Reading the message -----------------------------------------------------------------------------------------------


def _with_query(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Mistake:
    return lambda patch: patch.setattr(parse, "Query", lambda **given: Query(**change(given)))


def _filters_joined(given: dict[str, Any]) -> dict[str, Any]:
    """All positive filters as one, as if one annotation of an input had to satisfy them all."""
    positive = [item for item in given["filters"] if not item.negate]
    if given["unit"] is not Unit.INPUT or len(positive) < 2:
        return given
    joined = Filter(groups=tuple(group for item in positive for group in item.groups))
    return {**given, "filters": (joined, *(item for item in given["filters"] if item.negate))}


def _one_filter_each(given: dict[str, Any]) -> dict[str, Any]:
    """Every group a filter of its own, as if several annotations could share what one filter asks."""
    split = [
        Filter(groups=(group,)) if not item.negate else item
        for item in given["filters"]
        for group in (item.groups if not item.negate else item.groups[:1])
    ]
    return {**given, "filters": tuple(split)} if given["unit"] is Unit.INPUT else given


def _corners_as_they_come(original: Any) -> Any:
    def box(message: Any, where: str) -> GeoBox:
        original(message, where)
        one, other = (corner.geo_point for corner in message.geo_box)
        return GeoBox(south=one.latitude, west=one.longitude, north=other.latitude, east=other.longitude)

    return box


def _ungrouped(original: Any) -> Any:
    """Every condition in a group of its own: alternatives must all hold."""
    return lambda found, *, negate: original(
        [(replace(field, group=f"{i}"), condition) for i, (field, condition) in enumerate(found)], negate=negate
    )


def _all_keys(original: Any) -> Any:
    def wanted(struct: Any, where: str) -> list[str]:
        documents = [json.loads(document) for document in original(struct, where)]
        return [json.dumps({key: value for document in documents for key, value in document.items()})]

    return wanted


def _without_empty_data(original: Any) -> Any:
    def read(message: Any, reading: Any, where: str) -> Any:
        copy = type(message)()
        copy.CopyFrom(message)
        if not copy.annotation.data.ListFields():
            copy.annotation.ClearField("data")
        return original(copy, reading, where)

    return read


def _with_empty_data(original: Any) -> Any:
    def read(message: Any, reading: Any, where: str) -> Any:
        copy = type(message)()
        copy.CopyFrom(message)
        copy.annotation.data.SetInParent()
        return original(copy, reading, where)

    return read


READING: Mapping[str, Mistake] = {
    "reads a negated zero of a filter as zero": instead(
        parse,
        "read_filter",
        lambda read: lambda message, reading, where: read(message, replace(reading, negate=False), where),
    ),
    "forgets that a filter negates": instead(
        filters, "filter_of", lambda make: lambda found, *, negate: make(found, negate=False)
    ),
    "forgets the time of the search": _with_query(lambda given: {**given, "as_of": None}),
    "keeps what is below the lowest score": _with_query(lambda given: {**given, "min_value": 0.0}),
    "wants all filters on one annotation of an input": _with_query(_filters_joined),
    "lets annotations share one filter": _with_query(_one_filter_each),
    "wants all alternatives of a filter": instead(filters, "filter_of", _ungrouped),
    "overlooks data that is set and empty": instead(parse, "read_filter", _without_empty_data),
    "takes missing data for empty data": instead(parse, "read_filter", _with_empty_data),
    "does not know who me is": in_field("annotation.user_id", read=fields._as_it_is),
    "takes the corners of a box as they come": instead(geo, "_box", _corners_as_they_come),
    "counts miles as kilometres": lambda patch: patch.setitem(geo.UNITS, "withinMiles", geo.UNITS["withinKilometers"]),
    "counts radians as degrees": lambda patch: patch.setitem(geo.UNITS, "withinRadians", geo.UNITS["withinDegrees"]),
    "folds the case of metadata": instead(
        contents, "_text", lambda text: lambda value, refuse, where: text(value, refuse, where).lower()
    ),
    "wants all keys of metadata": instead(fields, "wanted_contents", _all_keys),
    "trusts whatever a legacy search finds": lambda patch: patch.setattr(legacy, "_SAID_BY_ANNOTATIONS", {}),
    "forgets that an And negates": instead(
        legacy, "filter_of", lambda make: lambda found, *, negate: make(found, negate=False)
    ),
    "takes only the first meaning of a name": instead(
        ConceptBook, "_called", lambda called: lambda *given: called(*given)[:1]
    ),
    "ignores the language of a name": instead(
        ConceptBook, "_called", lambda called: lambda book, name, _, found, own: called(book, name, own, found, own)
    ),
}

# Filters as SQL ----------------------------------------------------------------------------------------------------


def _turned(original: Any) -> Any:
    def any_said(values: Any, *rest: Any) -> Any:
        turned = [ConceptCondition(concept=value.concept, positive=not value.positive) for value in values]
        return original(turned, *rest)

    return any_said


def _flat(wanted: Any, alias: Any) -> Any:
    """Degrees of latitude and longitude as if they were alike."""
    if isinstance(wanted, GeoBox):
        return geo_lies_in(wanted, alias)
    return pg.SQL("sqrt(({a}.latitude - {}) ^ 2 + ({a}.longitude - {}) ^ 2) <= degrees({})").format(
        wanted.latitude, wanted.longitude, wanted.radians, a=alias
    )


geo_lies_in = geo.lies_in


def _on_one_side(original: Any) -> Any:
    """Of the antimeridian, for circles near it."""

    def rectangle(circle: Any, alias: Any) -> Any:
        if abs(circle.longitude) < 170.0:
            return original(circle, alias)
        east = pg.Literal(circle.longitude > 0.0)
        return pg.SQL("({} AND ({}.longitude > 0) = {})").format(original(circle, alias), alias, east)

    return rectangle


FILTERING: Mapping[str, Mistake] = {
    "mixes up positive and negative labels": instead(conditions, "any_said", _turned),
    "takes a half for less": in_sql("0.5::real", "0.6::real"),
    "listens to predictions": instead(view.View, "whose", lambda whose: lambda its: whose(replace(its, models=True))),
    "never listens to predictions": instead(sql, "_opens", lambda _: lambda item: False),
    "listens to predictions where a filter excludes them": instead(
        sql, "_opens", lambda opens: lambda item: opens(replace(item, negate=False))
    ),
    "asks labels what predictions say": lambda patch: patch.setattr(
        view.View, "has_labels", property(lambda its: its.as_of is None)
    ),
    "inherits nothing": in_sql("OR a.{column} IS NULL AND EXISTS", "OR false AND EXISTS"),
    "inherits although it has its own": in_sql("OR a.{column} IS NULL AND EXISTS", "OR EXISTS"),
    "inherits from any annotation": in_sql(" AND p.input_level AND {there}", " AND {there}"),
    "believes in hashes": in_sql("coalesce({alias}.{column} @> {document}::jsonb, false)", "true"),
    "wants metadata to be equal": in_sql("{alias}.{column} @> {document}", "{alias}.{column} = {document}"),
    "mixes up created and modified": in_sql("a.modified_at {} {}", "a.created_at {} {}"),
    "leaves the end of a period out": in_sql("a.modified_at {} {}", "a.modified_at + '1 us' {} {}"),
    "leaves out the borders of a box": in_sql("{}.{} BETWEEN {} AND {}", "{0}.{1} > {2} AND {0}.{1} < {3}"),
    "measures on a flat Earth": lambda patch: patch.setattr(conditions, "lies_in", _flat),
    "stops at the antimeridian": instead(geo, "_rectangle", _on_one_side),
    "forgets the poles": lambda patch: patch.setattr(
        geo, "_rectangle", lambda circle, alias: geo._between(alias, "latitude", -89.0, 89.0)
    ),
    "finds no boxes of regions that are only named": in_sql(
        "OR NOT coalesce(a.data @> {any}", "OR coalesce(a.data @> {any}"
    ),
    "takes the last annotation of an area": in_sql(
        "a.area_id, a.created_at, a.id", "a.area_id, a.created_at DESC, a.id"
    ),
    "orders by the last change": in_sql("ORDER BY a.created_at, a.id", "ORDER BY a.modified_at, a.id"),
    "overlooks a dataset": in_sql("d.bucket = {bucket} AND {named}", "d.bucket = {bucket} OR {named}"),
    "forgets a filter of an input search": instead(
        sql, "_on_input", lambda made: lambda item, its: pg.SQL("true") if item.negate else made(item, its)
    ),
}

# The past ----------------------------------------------------------------------------------------------------------

HISTORY: Mapping[str, Mistake] = {
    "leaves out what changes at that very moment": in_history("modified_at <= ", "modified_at < "),
    "keeps what ends at that very moment": in_history("until > ", "until >= "),
    "knows no end of what was": in_history(" AND until > {as_of}", ""),
    "forgets what was": in_history("FROM past_annotations p WHERE", "FROM past_annotations p WHERE false AND"),
    "knows the present only by what it says now": in_history(
        "FROM annotations WHERE bucket = {bucket} AND modified_at <= {as_of}",
        "FROM annotations WHERE bucket = {bucket}",
    ),
    "does not move to the whole image what lost its region": in_history(
        "(SELECT r.id FROM areas r WHERE r.bucket = {bucket} AND r.input_number = p.input_number"
        " AND r.region_id IS NULL AND r.frame_index IS NULL)",
        "p.area_id",
    ),
    "trusts everybody's labels of the past": in_sql("AND a.trusted AND a.concept_ids", "AND a.concept_ids"),
    "takes the oldest label of the past": in_sql("a.area_id, a.modified_at DESC", "a.area_id, a.modified_at"),
}
