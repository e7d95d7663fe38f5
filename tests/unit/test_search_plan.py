"""Which of filter and rank goes first, and how far down the order to look."""

from __future__ import annotations

import pytest

from sightrank.search.plan import Plan, candidate_bound, look_further, plan
from sightrank.search.query import FieldCondition, Filter, ImageTerm, Query, Rank, Unit

FILTER = Filter(groups=((FieldCondition(field="input.id", value="a"),),))
RANK = Rank(terms=(ImageTerm(url="u"),))


def query(*, filters: tuple[Filter, ...] = (), ranks: tuple[Rank, ...] = (), offset: int = 0, limit: int = 20) -> Query:
    return Query(unit=Unit.ANNOTATION, filters=filters, ranks=ranks, min_value=0.0, offset=offset, limit=limit)


@pytest.mark.parametrize(
    ("asked", "few", "many"),
    [
        (query(), Plan.FILTER, Plan.FILTER),
        (query(filters=(FILTER,)), Plan.FILTER, Plan.FILTER),
        (query(ranks=(RANK,)), Plan.RANK, Plan.RANK),
        (query(filters=(FILTER,), ranks=(RANK,)), Plan.FILTER_THEN_RANK, Plan.RANK_THEN_FILTER),
    ],
)
def test_the_plan_follows_from_what_was_asked_and_how_much_is_left(asked: Query, few: Plan, many: Plan) -> None:
    assert plan(asked) is few
    assert plan(asked, has_many=True) is many


def test_more_candidates_go_first_in_a_large_app_and_for_a_deep_page() -> None:
    small, large, deep = (
        candidate_bound(query(offset=offset), areas) for offset, areas in ((0, 1000), (0, 200_000), (5000, 200_000))
    )

    assert (small, large) == (10_000, 16_000)
    assert deep > 10 * large


def test_the_first_look_is_a_page_at_the_usual_share_of_survivors() -> None:
    unknown = look_further(wanted=20, looked_at=0, survived=0, usual_share=1.0)
    half = look_further(wanted=20, looked_at=0, survived=0, usual_share=0.5)
    tenth = look_further(wanted=20, looked_at=0, survived=0, usual_share=0.1)

    assert (unknown, half, tenth) == (100, 100, 263)
    assert look_further(wanted=300, looked_at=0, survived=0, usual_share=1.0) == 300
    assert look_further(wanted=20, looked_at=0, survived=0, usual_share=1e-4) == 20_000


def test_each_further_look_grows_and_the_last_gives_up() -> None:
    looks = [100]
    while (further := look_further(wanted=20, looked_at=looks[-1], survived=0, usual_share=1.0)) is not None:
        looks.append(further)

    assert looks == [100, 800, 6400]
    assert look_further(wanted=20, looked_at=100, survived=10, usual_share=1.0) == 228
    assert look_further(wanted=20, looked_at=100, survived=19, usual_share=1.0) == 200


def test_a_deep_page_is_not_given_up_before_it_could_be_full() -> None:
    first = look_further(wanted=10_000, looked_at=0, survived=0, usual_share=1.0)

    assert first == 10_000
    assert look_further(wanted=10_000, looked_at=10_000, survived=9_000, usual_share=1.0) == 20_000
