"""Filters as SQL: one bucket named everywhere, values only as literals, nothing of a query ever as SQL."""

from __future__ import annotations

import pytest
from psycopg.sql import Composed

from sightrank.search import sql
from sightrank.search.plan import Plan, plan
from sightrank.search.query import (
    ConceptCondition,
    ConceptName,
    Condition,
    DatasetCondition,
    FieldCondition,
    Filter,
    ImageTerm,
    Query,
    Rank,
    Unit,
)

DOG = ConceptName(id="dog")
SCOPE = sql.FilterScope(bucket=7, concepts={DOG: (("dog",), ("ai_dog",))})
NASTY = "'; DROP TABLE inputs; -- %s {} \\"


def query(*conditions: Condition, unit: Unit = Unit.ANNOTATION, negate: bool = False, ranked: bool = False) -> Query:
    return Query(
        unit=unit,
        filters=tuple(Filter(groups=((condition,),), negate=negate) for condition in conditions),
        ranks=(Rank(terms=(ImageTerm(url="u"),)),) if ranked else (),
        min_value=0.0,
        offset=30,
        limit=10,
    )


def text(statement: Composed) -> str:
    return statement.as_string(None)


@pytest.mark.parametrize("unit", Unit)
def test_a_page_is_cut_by_literals(unit: Unit) -> None:
    assert " LIMIT 10 OFFSET 30" in text(sql.page(query(unit=unit), SCOPE))


@pytest.mark.parametrize("unit", Unit)
@pytest.mark.parametrize(
    "condition",
    [
        ConceptCondition(concept=DOG, positive=True),
        DatasetCondition(dataset_id="holiday"),
        *(FieldCondition(field=field, value="x") for field in sql.FIELDS),
    ],
)
def test_every_table_is_bound_to_the_bucket(condition: Condition, unit: Unit) -> None:
    asked = query(condition, unit=unit)
    for statement in (sql.page(asked, SCOPE), sql.candidates(asked, SCOPE), sql.count(asked, SCOPE)):
        found = text(statement)

        tables = sum(found.count(f"{table} {alias}") for table, alias in (
            ("annotations", "a"), ("inputs", "i"), ("areas", "r"), ("labels", "l"), ("dataset_inputs", "d")
        ))  # fmt: skip
        assert found.count("bucket = 7") >= tables >= 1


@pytest.mark.parametrize("field", sorted(sql.FIELDS))
def test_values_are_quoted(field: str) -> None:
    found = text(sql.page(query(FieldCondition(field=field, value=NASTY)), SCOPE))

    assert "'''; DROP TABLE inputs; -- %s {} \\\\'" in found


def test_an_id_of_a_dataset_or_concept_is_quoted_too() -> None:
    scope = sql.FilterScope(bucket=7, concepts={DOG: ((NASTY,),)})
    conditions = (DatasetCondition(dataset_id=NASTY), ConceptCondition(concept=DOG, positive=True))

    found = text(sql.candidates(query(*conditions), scope))

    assert found.count("'; DROP TABLE") == found.count("''; DROP TABLE") == 2


def test_negate_turns_the_whole_filter_round() -> None:
    asked = FieldCondition(field="input.id", value="x")

    assert "NOT ((i.id = 'x'))" in text(sql.page(query(asked, negate=True), SCOPE))
    assert "NOT EXISTS (SELECT FROM annotations" in text(sql.page(query(asked, negate=True, unit=Unit.INPUT), SCOPE))


def test_groups_are_all_wanted_and_their_conditions_are_alternatives() -> None:
    one, two, three = (FieldCondition(field="input.id", value=value) for value in ("1", "2", "3"))
    asked = Query(
        unit=Unit.ANNOTATION,
        filters=(Filter(groups=((one, two), (three,))),),
        ranks=(),
        min_value=0.0,
        offset=0,
        limit=1,
    )

    assert "((i.id = '1' OR i.id = '2') AND (i.id = '3'))" in text(sql.page(asked, SCOPE))


def test_predictions_are_not_searched_by_filters() -> None:
    for unit in Unit:
        assert "a.model_version_id = ''" in text(sql.page(query(DatasetCondition(dataset_id="x"), unit=unit), SCOPE))


def test_only_indexed_inputs_are_ranked() -> None:
    for unit in Unit:
        assert "i.status = 30000" in text(sql.candidates(query(unit=unit, ranked=True), SCOPE))
        assert "i.status" not in text(sql.page(query(unit=unit), SCOPE))


def test_the_plan_follows_from_what_was_asked() -> None:
    asked = DatasetCondition(dataset_id="x")

    assert plan(query()) is Plan.FILTER
    assert plan(query(asked)) is Plan.FILTER
    assert plan(query(ranked=True)) is Plan.RANK
    assert plan(query(asked, ranked=True)) is Plan.FILTER_THEN_RANK
