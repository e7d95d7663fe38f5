"""How the rows of ``search.fields`` become SQL. No I/O.

Each function makes, of all values that are wanted of one field, one condition: any of them will do. What is wanted of
JSON is first found by the hashes in ``search_keys``, which are indexed, and then compared; ``coalesce`` hides this
comparison from PostgreSQL's estimate of what is left, in which the hashes count already.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from psycopg import sql

from sightrank.search.geo import lies_in
from sightrank.search.query import Circle, ConceptCondition, GeoBox, Period
from sightrank.search.view import View

#: Makes, of the values that are wanted of a field, the condition on ``a`` or ``i``.
Compile = Callable[[Sequence[Any], View], sql.Composable]
#: The same for what an annotation of any alias says itself.
Own = Callable[[Sequence[Any], View, str], sql.Composable]
NEVER = sql.SQL("false")


def any_of(parts: Sequence[sql.Composable]) -> sql.Composable:
    """One of these conditions, in brackets; false without any."""
    return sql.SQL("({})").format(sql.SQL(" OR ").join(parts)) if parts else NEVER


def all_of(parts: Sequence[sql.Composable]) -> sql.Composable:
    """All of these conditions; true without any."""
    return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true")


def equals(column: str, *, indexed_where: str = "") -> Compile:
    """A column has one of the values. ``indexed_where``: what is so for every such row, by which an index is found."""

    def compile(values: Sequence[Any], view: View) -> sql.Composable:
        parts: list[sql.Composable] = [_one_of(sql.SQL(column), values)]
        return all_of([*parts, sql.SQL(indexed_where)] if indexed_where else parts)

    return compile


def is_true(column: str) -> Compile:
    return lambda values, view: sql.SQL(column)


def nothing(values: Sequence[Any], view: View) -> sql.Composable:
    return NEVER


def input_of_id(values: Sequence[Any], view: View) -> sql.Composable:
    return sql.SQL("{number} IN (SELECT n.number FROM inputs n WHERE n.bucket = {bucket} AND {named})").format(
        number=view.number, bucket=sql.Literal(view.bucket), named=_one_of(sql.SQL("n.id"), values)
    )


def input_of_url(values: Sequence[Any], view: View) -> sql.Composable:
    """As the index of URLs computes it: a cast of text to bytea reads backslashes as escapes."""
    return any_of(
        [
            sql.SQL(
                "i.url <> '' AND i.url = {url}"
                " AND sha256(replace(i.url, '\\', '\\\\')::bytea) = sha256(replace({url}, '\\', '\\\\')::bytea)"
            ).format(url=sql.SQL("{}::text").format(sql.Literal(url)))
            for url in values
        ]
    )


def in_dataset(values: Sequence[Any], view: View) -> sql.Composable:
    return sql.SQL(
        "{number} IN (SELECT d.input_number FROM dataset_inputs d WHERE d.bucket = {bucket} AND {named})"
    ).format(number=view.number, bucket=sql.Literal(view.bucket), named=_one_of(sql.SQL("d.dataset_id"), values))


def in_period(values: Sequence[Period], view: View) -> sql.Composable:
    return any_of(
        [
            all_of(
                [
                    sql.SQL("a.modified_at {} {}").format(sql.SQL(comparison), sql.Literal(instant))
                    for comparison, instant in ((">=", period.start), ("<=", period.end))
                    if instant is not None
                ]
            )
            for period in values
        ]
    )


# Concepts -----------------------------------------------------------------------------------------


def says(values: Sequence[ConceptCondition], view: View) -> sql.Composable:
    """An annotation says one of these things about concepts; ``labels`` tell it of people's annotations of now."""
    if not view.has_labels:
        ids = sql.SQL("{}::text[]").format(sql.Literal(_ids(values, view)))
        return sql.SQL(
            "(a.concept_ids && {ids}"
            " AND EXISTS (SELECT FROM unnest(a.concept_ids, a.concept_values) c (id, value) WHERE {said}))"
        ).format(ids=ids, said=any_said(values, view, "c.id", "c.value"))
    return sql.SQL(
        "EXISTS (SELECT FROM labels l WHERE {said} AND l.input_number = a.input_number AND l.annotation_id = a.id)"
    ).format(said=labels(values, view, "l"))


def ever_said(values: Sequence[ConceptCondition], view: View) -> sql.Composable:
    """Inputs of which people say it now, or said something of these concepts at the time.

    UNION and not UNION ALL, of which PostgreSQL believes that it has 200 different rows however many there are.
    """
    now = sql.SQL("SELECT l.input_number FROM labels l WHERE {}").format(labels(values, view, "l"))
    ids = sql.SQL("{}::text[]").format(sql.Literal(_ids(values, view)))
    return sql.SQL("{} UNION {}").format(now, view.past_inputs(sql.SQL("g.concept_ids && {}").format(ids)))


def labels(values: Sequence[ConceptCondition], view: View, alias: str) -> sql.Composable:
    """The condition on a row of ``labels`` to be one that says it."""
    return sql.SQL("{alias}.bucket = {bucket} AND {said}").format(
        alias=sql.SQL(alias),
        bucket=sql.Literal(view.bucket),
        said=any_said(values, view, f"{alias}.concept_id", f"{alias}.value"),
    )


def is_one_label(values: Sequence[ConceptCondition], view: View) -> bool:
    """Whether an annotation can have no more than one label that says it."""
    return len(_ids(values, view)) <= 1


def any_said(values: Sequence[ConceptCondition], view: View, id: str, value: str) -> sql.Composable:
    found = []
    for positive in (True, False):
        ids = view.concept_ids([item.concept for item in values if item.positive is positive])
        if ids:
            comparison = sql.SQL("{} {} 0.5::real").format(sql.SQL(value), sql.SQL(">=" if positive else "<"))
            found.append(all_of([_one_of(sql.SQL(id), ids), comparison]))
    if len(found) < 2:
        return found[0] if found else NEVER
    # One condition on the concept alone, so that its index serves both.
    return all_of([_one_of(sql.SQL(id), _ids(values, view)), any_of(found)])


def _ids(values: Sequence[ConceptCondition], view: View) -> list[str]:
    return view.concept_ids([item.concept for item in values])


# JSON ---------------------------------------------------------------------------------------------


def contains(column: str, root: str) -> Own:
    """A JSON column contains one of these documents. ``root`` is its name in ``json_keys``."""

    def own(values: Sequence[Any], view: View, alias: str) -> sql.Composable:
        parts = [
            sql.SQL("{keys}coalesce({alias}.{column} @> {document}::jsonb, false)").format(
                keys=_has_keys(
                    view,
                    alias,
                    sql.SQL("json_keys({}, {}, {}::jsonb, true)").format(
                        _bucket(view), sql.Literal(root), sql.Literal(document)
                    ),
                ),
                alias=sql.SQL(alias),
                column=sql.Identifier(column),
                document=sql.Literal(document),
            )
            for document in values
        ]
        return _keyed(view, alias, any_of(parts))

    return own


def has_kind(word: str, shape: dict[str, Any]) -> Own:
    """The data has this shape, and therefore the word as a key."""
    return lambda values, view, alias: _has_data(view, alias, word, shape)


def has_box(values: Sequence[Any], view: View) -> sql.Composable:
    """A box was posted, or a region without any geometry of its own, which is shown as the box of its area."""
    on_box = sql.SQL(
        "EXISTS (SELECT FROM areas r WHERE r.bucket = {bucket} AND r.id = a.area_id AND r.region_id IS NOT NULL"
        " AND r.box_top IS NOT NULL)"
    ).format(bucket=sql.Literal(view.bucket))
    if view.as_of is not None:
        on_box = sql.SQL("({} OR a.box_top IS NOT NULL)").format(on_box)
    return sql.SQL(
        "({on_box} AND (coalesce(a.data @> {box}::jsonb, false) OR NOT coalesce(a.data @> {any}::jsonb, false)))"
    ).format(
        on_box=on_box,
        box=_shape({"regions": [{"region_info": {"bounding_box": {}}}]}),
        any=_shape({"regions": [{"region_info": {}}]}),
    )


def has_track(values: Sequence[Any], view: View, alias: str) -> sql.Composable:
    return any_of([_has_data(view, alias, f"track={track}", {"regions": [{"track_id": track}]}) for track in values])


def is_of_region(values: Sequence[Any], view: View) -> sql.Composable:
    found = sql.SQL("a.area_id IN (SELECT r.id FROM areas r WHERE r.bucket = {bucket} AND {named})").format(
        bucket=sql.Literal(view.bucket), named=_one_of(sql.SQL("r.region_id"), values)
    )
    if view.as_of is None:
        return found
    # The region itself may be gone, and what was said of it then stands on the whole image.
    return any_of([found, sql.SQL("coalesce({}, false)").format(_one_of(sql.SQL("a.region_id"), values))])


def is_of_the_whole(values: Sequence[Any], view: View) -> sql.Composable:
    """Neither of a region nor of a stretch of time."""
    gone = sql.SQL("" if view.as_of is None else " AND a.region_id IS NULL")
    return sql.SQL(
        "(NOT coalesce(a.data ?| '{{regions,frames,time_segments}}', false){gone} AND NOT EXISTS (SELECT FROM areas r"
        " WHERE r.bucket = {bucket} AND r.id = a.area_id AND r.region_id IS NOT NULL))"
    ).format(bucket=sql.Literal(view.bucket), gone=gone)


def _has_data(view: View, alias: str, word: str, shape: dict[str, Any]) -> sql.Composable:
    key = sql.SQL("ARRAY[data_key({}, {})]").format(_bucket(view), sql.Literal(word))
    found = sql.SQL("{keys}coalesce({alias}.data @> {shape}::jsonb, false)").format(
        keys=_has_keys(view, alias, key), alias=sql.SQL(alias), shape=_shape(shape)
    )
    return _keyed(view, alias, any_of([found]))


def _has_keys(view: View, alias: str, keys: sql.Composable) -> sql.Composable:
    """The beginning of a condition, where keys help: what annotations said in the past has none."""
    if view.as_of or view.few:
        return sql.SQL("")
    return sql.SQL("{}.search_keys @> {} AND ").format(sql.SQL(alias), keys)


def _keyed(view: View, alias: str, condition: sql.Composable) -> sql.Composable:
    """The condition, with the one of the partial index over keys."""
    if view.as_of or view.few:
        return condition
    return sql.SQL("({}.search_keys <> '{{}}' AND {})").format(sql.SQL(alias), condition)


def _shape(shape: dict[str, Any]) -> sql.Literal:
    return sql.Literal(json.dumps(shape, ensure_ascii=False))


def _bucket(view: View) -> sql.Composable:
    return sql.SQL("{}::bigint").format(sql.Literal(view.bucket))


# Places and what is inherited ---------------------------------------------------------------------


def is_in_place(values: Sequence[Circle | GeoBox], view: View, alias: str) -> sql.Composable:
    return any_of([lies_in(wanted, sql.SQL(alias)) for wanted in values])


def itself(own: Own) -> Compile:
    """What the annotation says itself."""
    return lambda values, view: own(values, view, "a")


def ever(own: Own) -> Compile:
    """Inputs with an annotation that says it now or said it at the time."""

    def compile(values: Sequence[Any], view: View) -> sql.Composable:
        return sql.SQL("{} UNION {}").format(_inputs_now(values, view, own), view.past_inputs(own(values, view, "g")))

    return compile


def inherited(own: Own, column: str) -> Compile:
    """What an annotation says itself or, where its ``column`` is null, what its input's own annotation says.

    Its input must have an annotation that says it itself: said as well, because an index finds those.
    """

    def compile(values: Sequence[Any], view: View) -> sql.Composable:
        said = own(values, view, "a")
        if view.alone:
            return said
        said = sql.SQL(
            "({own} OR a.{column} IS NULL AND EXISTS (SELECT FROM {level} WHERE p.bucket = {bucket}"
            " AND p.input_number = a.input_number AND p.input_level AND {there}))"
        ).format(
            own=said,
            column=sql.Identifier(column),
            level=view.annotations("p", of=sql.SQL("a.input_number")),
            bucket=sql.Literal(view.bucket),
            there=own(values, view, "p"),
        )
        if view.few or view.as_of is not None:
            return said
        return sql.SQL("({} IN ({}) AND {})").format(view.number, _inputs_now(values, view, own), said)

    return compile


def _inputs_now(values: Sequence[Any], view: View, own: Own) -> sql.Composable:
    return sql.SQL("SELECT g.input_number FROM annotations g WHERE g.bucket = {} AND {}").format(
        sql.Literal(view.bucket), own(values, view.now, "g")
    )


def _one_of(column: sql.Composable, values: Sequence[Any]) -> sql.Composable:
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        return sql.SQL("{} = {}").format(column, sql.Literal(distinct[0]))
    return sql.SQL("{} = ANY({})").format(column, sql.Literal(distinct))
