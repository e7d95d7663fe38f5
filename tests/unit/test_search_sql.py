"""Filters as SQL: one bucket named everywhere, values only as literals, nothing of a query ever as SQL."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from psycopg.sql import Composed

from sightrank.search import sql
from sightrank.search.fields import FIELDS, Field
from sightrank.search.query import (
    Circle,
    ConceptCondition,
    ConceptName,
    Condition,
    FieldCondition,
    Filter,
    ImageTerm,
    Period,
    Query,
    Rank,
    Unit,
)

DOG = ConceptName(id="dog")
SCOPE = sql.FilterScope(bucket=7, concepts={DOG: (("dog",), ("ai_dog",))})
NASTY = "'; DROP TABLE inputs; -- %s {} \\"
THEN = datetime(2024, 5, 6, tzinfo=UTC)
LATER = FieldCondition(field="input.id", value="x")


def query(
    *conditions: Condition, unit: Unit = Unit.ANNOTATION, negate: bool = False, ranked: bool = False, past: bool = False
) -> Query:
    return Query(
        unit=unit,
        filters=tuple(Filter(groups=((condition,),), negate=negate) for condition in conditions),
        ranks=(Rank(terms=(ImageTerm(url="u"),)),) if ranked else (),
        min_value=0.0,
        offset=30,
        limit=10,
        as_of=THEN if past else None,
    )


def text(statement: Composed) -> str:
    return statement.as_string(None)


def statements(asked: Query) -> list[str]:
    """Everything that can be asked of the filters of a query."""
    return [
        text(sql.page(asked, SCOPE)),
        text(sql.candidates(asked, SCOPE)),
        text(sql.candidates(asked, SCOPE, at_most=3)),
        text(sql.surviving(asked, SCOPE, [1, 2])),
        text(sql.count(asked, SCOPE)),
    ]


def example(field: Field, value: Any = "x") -> Condition:
    """A condition on the field, of ``value`` if that can be one."""
    if field.group == "concepts":
        return ConceptCondition(concept=DOG, positive=True)
    if field.path == "annotation.data.geo":
        return FieldCondition(field=field.path, value=Circle(latitude=89.0, longitude=179.0, radians=0.01))
    if field.path == "last_updated_time_range":
        return FieldCondition(field=field.path, value=Period(start=THEN, end=THEN))
    if field.path in ("annotation.data.metadata", "annotation.annotation_info"):
        return FieldCondition(field=field.path, value='{"a": "' + str(value) + '"}')
    return FieldCondition(field=field.path, value=True if field.is_kind and "input" not in field.path else value)


#: Fields whose value is text that comes into the statement; no workflow is ever looked for.
TEXTS = [
    path
    for path in FIELDS
    if path.endswith(("id", "ids[]", "url", "metadata", "annotation_info")) and "workflow" not in path
]
EXAMPLES = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS.keys())
TABLE = re.compile(
    r"\b(annotations|inputs|areas|labels|dataset_inputs|past_annotations) (?:AS )?(?!WHERE|ON|JOIN)([a-z]\w*)"
)
UNNAMED = re.compile(r"\b(annotations|past_annotations p) WHERE bucket = 7 AND")


@pytest.mark.parametrize("unit", Unit)
def test_a_page_is_cut_by_literals(unit: Unit) -> None:
    assert "LIMIT 10 OFFSET 30" in text(sql.page(query(unit=unit), SCOPE))


@pytest.mark.parametrize("unit", Unit)
def test_candidates_can_be_bounded(unit: Unit) -> None:
    assert text(sql.candidates(query(LATER, unit=unit), SCOPE, at_most=41)).endswith(" LIMIT 41")


@EXAMPLES
@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("negate", [False, True])
def test_every_table_is_bound_to_the_bucket(field: Field, unit: Unit, past: bool, negate: bool) -> None:
    for found in statements(query(example(field), unit=unit, past=past, negate=negate)):
        named = TABLE.findall(found)

        assert named
        for _, alias in named:
            bound = f"{alias}.bucket = 7" in found or f"{alias}.bucket = a.bucket" in found
            assert bound or UNNAMED.search(found), f"{alias} in {found}"
        assert len(re.findall(r"\bbucket = 7\b", found)) >= len(named) - found.count("bucket = a.bucket")


@pytest.mark.parametrize("path", TEXTS)
@pytest.mark.parametrize("unit", Unit)
def test_values_are_quoted(path: str, unit: Unit) -> None:
    for found in statements(query(example(FIELDS[path], NASTY), unit=unit)):
        assert found.count("DROP TABLE") == found.count("''; DROP TABLE inputs; -- %s {} \\\\") >= 1


def test_an_id_of_a_concept_is_quoted_too() -> None:
    scope = sql.FilterScope(bucket=7, concepts={DOG: ((NASTY,),)})

    found = text(sql.candidates(query(ConceptCondition(concept=DOG, positive=True)), scope))

    assert found.count("DROP TABLE") == found.count("''; DROP TABLE") == 1


def test_negate_turns_the_whole_filter_round() -> None:
    two = (FieldCondition(field="annotation.id", value="1"),), (FieldCondition(field="annotation.task_id", value="2"),)
    asked = Query(
        unit=Unit.ANNOTATION,
        filters=(Filter(groups=two, negate=True),),
        ranks=(),
        min_value=0.0,
        offset=0,
        limit=1,
    )

    assert "NOT ((a.id = '1') AND (a.task_id = '2'))" in text(sql.page(asked, SCOPE))


def test_groups_are_all_wanted_and_their_conditions_are_alternatives() -> None:
    image, video = (FieldCondition(field=f"input.data.{name}", value=name) for name in ("image", "video"))
    status = FieldCondition(field="input.status.code", value=30000)
    asked = Query(
        unit=Unit.INPUT,
        filters=(Filter(groups=((image, video, status), (FieldCondition(field="input.id", value="x"),))),),
        ranks=(),
        min_value=0.0,
        offset=0,
        limit=1,
    )

    found = text(sql.count(asked, SCOPE))

    assert "(i.media = 'image' OR i.media = 'video' OR i.status = 30000) AND (i.number IN (" in found


def test_values_of_one_field_are_one_condition() -> None:
    tags = tuple(FieldCondition(field="input.dataset_ids[]", value=value) for value in ("1", "2", "1"))
    asked = Query(unit=Unit.INPUT, filters=(Filter(groups=(tags,)),), ranks=(), min_value=0.0, offset=0, limit=1)

    found = text(sql.count(asked, SCOPE))

    assert found.count("dataset_inputs") == 1
    assert "d.dataset_id = ANY('{1,2}')" in found


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize("make", [sql.page, sql.candidates, sql.count])
def test_predictions_are_searched_only_by_those_who_ask_for_them(
    unit: Unit, make: Callable[[Query, sql.FilterScope], Composed]
) -> None:
    people = " AND a.model_version_id = ''"
    user = FieldCondition(field="annotation.user_id", value="ann")

    for path in (
        "annotation.model_version_id",
        "annotation.worker.model.model_version.id",
        "annotation.worker.model.id",
    ):
        model = FieldCondition(field=path, value="m")
        assert people not in text(make(query(model, unit=unit), SCOPE))
        assert people in text(make(query(model, unit=unit, negate=True), SCOPE))
    assert people in text(make(query(user, unit=unit), SCOPE))


def test_a_concept_that_means_nothing_finds_nothing() -> None:
    scope = sql.FilterScope(bucket=7, concepts={DOG: ()})
    asked = ConceptCondition(concept=DOG, positive=True)

    assert " AND l0.bucket = 7 AND false ORDER BY" in text(sql.page(query(asked), scope))
    assert "NOT ((EXISTS (SELECT FROM labels l WHERE l.bucket = 7 AND false AND " in text(
        sql.page(query(asked, negate=True), scope)
    )


def test_only_indexed_inputs_are_ranked() -> None:
    for unit in Unit:
        assert "(n.status < 30000 OR n.status > 30000)" in text(sql.candidates(query(unit=unit, ranked=True), SCOPE))
        assert "30000" not in text(sql.page(query(unit=unit), SCOPE))


@EXAMPLES
@pytest.mark.parametrize("unit", Unit)
def test_the_past_is_read_from_what_annotations_said_then(field: Field, unit: Unit) -> None:
    then = "'2024-05-06 00:00:00+00:00'::timestamptz"
    for found in statements(query(example(field), unit=unit, past=True)):
        past = found.count("past_annotations p") + found.count("past_annotations g")
        assert found.count("past_annotations") == past == found.count(f"until > {then}") >= 1
        assert " annotations a " not in found
        assert " JOIN labels " not in found


def test_labels_of_the_past_are_those_of_trusted_annotations_of_people() -> None:
    found = text(sql.labels_as_of(7, ["dog", NASTY], THEN))

    assert "past_annotations p" in found
    assert "a.trusted" in found
    assert "a.model_version_id = ''" in found
    assert found.count("DROP TABLE") == found.count("''; DROP TABLE") >= 1
