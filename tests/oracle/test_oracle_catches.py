"""The oracle is worth something: each of these small mistakes makes it object within a few hundred searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from psycopg import sql as pg
from tests.oracle.bench import Bench
from tests.oracle.comparison import Mismatch

from sightrank.search import engine, follow, parse, rank, sql
from sightrank.search.concepts import ConceptBook
from sightrank.search.matrix import Matrix
from sightrank.search.query import ConceptCondition, Query
from sightrank.search.score import Array, Direction, highest_of_groups, mean_log_score

SEARCHES = 400

Mistake = Callable[[pytest.MonkeyPatch], None]


def forgets_negated_ranks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rank, "mean_log_score", lambda scores, **_: mean_log_score(scores))


def takes_the_arithmetic_mean(patch: pytest.MonkeyPatch) -> None:
    def arithmetic(scores: Sequence[Array], *, negate: bool = False) -> Array:
        with np.errstate(divide="ignore"):
            mean = np.log(np.mean(np.exp(np.stack(scores)), axis=0))
        return mean_log_score([mean], negate=negate)

    patch.setattr(rank, "mean_log_score", arithmetic)


def ignores_labels(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(rank, "_labelled", lambda matrix, prediction, labels, groups: prediction)


def takes_the_oldest_label(patch: pytest.MonkeyPatch) -> None:
    latest = follow._SQL["latest_labels"]
    patch.setitem(follow._SQL, "latest_labels", latest.replace("DESC, annotation_id DESC", ", annotation_id"))


def believes_labels_that_nobody_trusts(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(follow._SQL, "latest_labels", follow._SQL["latest_labels"].replace("AND trusted", ""))


def takes_the_worst_area_of_an_input(patch: pytest.MonkeyPatch) -> None:
    original = highest_of_groups

    def lowest(probability: Any, starts: Any) -> Any:
        turned = original(type(probability)(probability.no, probability.yes), starts)
        return type(probability)(turned.no, turned.yes)

    patch.setattr(rank, "highest_of_groups", lowest)


def confuses_rows_in_the_full_scan(patch: pytest.MonkeyPatch) -> None:
    original = Matrix.all_cosines
    patch.setattr(Matrix, "all_cosines", lambda self, directions: original(self, directions)[::-1])


def looks_at_too_few_neighbours(patch: pytest.MonkeyPatch) -> None:
    original = Matrix.nearest
    patch.setattr(Matrix, "nearest", lambda self, direction, count: original(self, direction, max(count - 70, 1)))


def orders_ties_from_new_to_old(patch: pytest.MonkeyPatch) -> None:
    original: Any = Matrix.created_us
    patch.setattr(Matrix, "created_us", property(lambda self: -original.fget(self)))


def has_no_mean_of_positives(patch: pytest.MonkeyPatch) -> None:
    original = engine._concept_direction

    def only_predicted(matrix: Any, tagger: Any, concept_id: str, labels: Any) -> Direction:
        known = tagger.row(concept_id) is not None
        return original(matrix, tagger, concept_id, labels) if known else Direction(vector=None)

    patch.setattr(engine, "_concept_direction", only_predicted)


def reads_a_negated_zero_as_zero(patch: pytest.MonkeyPatch) -> None:
    original = parse._terms
    patch.setattr(parse, "_terms", lambda annotation, language, _, where: original(annotation, language, False, where))


def takes_only_the_first_meaning_of_a_name(patch: pytest.MonkeyPatch) -> None:
    original = ConceptBook._called
    patch.setattr(ConceptBook, "_called", lambda *args: original(*args)[:1])


def ignores_the_language_of_a_name(patch: pytest.MonkeyPatch) -> None:
    original = ConceptBook._called
    patch.setattr(ConceptBook, "_called", lambda self, name, _, found, own: original(self, name, own, found, own))


def forgets_negated_filters_of_annotations(patch: pytest.MonkeyPatch) -> None:
    def all_plain(filters: Any, scope: Any) -> Any:
        return sql._joined([sql._body(item, scope) for item in filters], " AND ")

    patch.setattr(sql, "_all_on_one_annotation", all_plain)


def wants_all_filters_on_one_annotation_of_an_input(patch: pytest.MonkeyPatch) -> None:
    def one_annotation(filters: Any, scope: Any) -> pg.Composed:
        return pg.SQL(
            "EXISTS (SELECT FROM annotations a WHERE a.bucket = {} AND a.input_number = i.number"
            " AND a.model_version_id = '' AND {})"
        ).format(pg.Literal(scope.bucket), sql._all_on_one_annotation(filters, scope))

    patch.setattr(sql, "_each_on_some_annotation", one_annotation)


def mixes_up_positive_and_negative_labels(patch: pytest.MonkeyPatch) -> None:
    original = sql._concept

    def turned(condition: ConceptCondition, scope: Any) -> Any:
        return original(ConceptCondition(concept=condition.concept, positive=not condition.positive), scope)

    patch.setattr(sql, "_concept", turned)


def joins_the_conditions_of_a_group_by_and(patch: pytest.MonkeyPatch) -> None:
    original = sql._joined
    patch.setattr(sql, "_joined", lambda parts, operator: original(parts, " AND "))


def filters_by_predictions_too(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sql, "_JOIN", pg.SQL(sql._JOIN._obj.replace(" AND a.model_version_id = ''", "")))


def keeps_what_is_below_the_lowest_score(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(parse, "Query", lambda **fields: Query(**{**fields, "min_value": 0.0}))


MISTAKES: Sequence[Mistake] = (
    forgets_negated_ranks,
    takes_the_arithmetic_mean,
    ignores_labels,
    takes_the_oldest_label,
    believes_labels_that_nobody_trusts,
    takes_the_worst_area_of_an_input,
    confuses_rows_in_the_full_scan,
    looks_at_too_few_neighbours,
    orders_ties_from_new_to_old,
    has_no_mean_of_positives,
    reads_a_negated_zero_as_zero,
    takes_only_the_first_meaning_of_a_name,
    ignores_the_language_of_a_name,
    forgets_negated_filters_of_annotations,
    wants_all_filters_on_one_annotation_of_an_input,
    mixes_up_positive_and_negative_labels,
    joins_the_conditions_of_a_group_by_and,
    filters_by_predictions_too,
    keeps_what_is_below_the_lowest_score,
)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_oracle_notices_a_search_that(mistake: Mistake, apps: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake(monkeypatch)

    with pytest.raises(Mismatch):
        _search(apps)


def test_oracle_has_nothing_to_say_otherwise(apps: Bench) -> None:
    _search(apps)


def _search(apps: Bench) -> None:
    searching = apps.engine()
    for seed in range(SEARCHES):
        oracle, asked = apps.asked(Random(seed))
        apps.check(searching, oracle, asked)
