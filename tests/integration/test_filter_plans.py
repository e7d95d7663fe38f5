"""Every field of a filter has an index that serves it, and no search reads rows of another app.

Several apps of one size lie on each other's pages, so that reading whole tables would be tempting. Each statement is
run and its plan looked at.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.explaining import INPUTS, RARE, on_grown_apps, reads, strays

from sightrank.search.fields import FIELDS
from sightrank.search.query import (
    Circle,
    ConceptCondition,
    ConceptName,
    Condition,
    FieldCondition,
    Filter,
    Period,
    Query,
    Unit,
)
from sightrank.search.sql import FilterScope, candidates, count, labels_as_of, page, surviving
from sightrank.store.database import Database

CONCEPT = ConceptName(id="c-2")
SCOPE = FilterScope(bucket=1, concepts={CONCEPT: (("c-2",),)})
_SAID = ConceptCondition(concept=CONCEPT, positive=True)
_START = datetime(1970, 1, 1, tzinfo=UTC)
#: What each field is asked for, so that one input in a hundred has it, or fewer.
NARROW: dict[str, Any] = {
    "annotation.id": "a-8",
    "annotation.input_id": "in-8",
    "annotation.user_id": "user-2",
    "annotation.worker.user.id": "user-2",
    "annotation.model_version_id": "version-2",
    "annotation.worker.model.model_version.id": "version-2",
    "annotation.worker.workflow.version.id": "any",
    "annotation.task_id": "task-2",
    "annotation.status.code": 24151,
    "annotation.annotation_info": '{"round": 2}',
    "annotation.data.concepts[]": _SAID,
    "annotation.data.regions[].data.concepts[]": _SAID,
    "annotation.data.frames[].data.concepts[]": _SAID,
    "annotation.data.metadata": '{"shelf": 2}',
    "annotation.data.geo": Circle(latitude=-48.0, longitude=2.0, radians=0.001),
    "annotation.data.image.url": "http://example.com/8",
    "annotation.data.regions[].region_info.bounding_box": True,
    "annotation.data.regions[].region_info.mask": True,
    "annotation.data.regions[].region_info.polygon": True,
    "annotation.data.regions[].region_info.point": True,
    "annotation.data.regions[].region_info.span": True,
    "annotation.data.regions[].region_info.token": True,
    "annotation.data.regions[].id": "region-8",
    "annotation.data.regions[].track_id": "7",
    "annotation.data.frames[].frame_info": True,
    "annotation.data.time_segments[].time_info": True,
    "annotation.data.text": True,
    "last_updated_time_range": Period(start=_START, end=_START + timedelta(seconds=60)),
    "input.id": "in-8",
    "input.dataset_ids[]": "holiday",
    "input.data.video": "video",
    "input.data.text": "text",
    "input.data.audio": "audio",
    "input.status.code": 30001,
    "input.data.image.url": "http://example.com/8",
}
#: Fields that hold for a good part of any app: reading the app, and nothing but the app, is all that can be asked.
BROAD: dict[str, Any] = {
    # An app has one model, or two.
    "annotation.worker.model.id": "model-2",
    "annotation.trusted": True,
    "annotation.input_level": True,
    "annotation.data": True,
    "input.data.image": "image",
}


THEN = _START + timedelta(seconds=3000)


def query(field: str, value: Any, unit: Unit, *, as_of: datetime | None = None, negate: bool = False) -> Query:
    condition: Condition = value if isinstance(value, ConceptCondition) else FieldCondition(field=field, value=value)
    filters = (Filter(groups=((condition,),), negate=negate),)
    return Query(unit=unit, filters=filters, ranks=(), min_value=0.0, offset=0, limit=20, as_of=as_of)


def statements(asked: Query) -> dict[str, Any]:
    return {
        "candidates": candidates(asked, SCOPE),
        "page": page(asked, SCOPE),
        "count": count(asked, SCOPE),
        "surviving": surviving(asked, SCOPE, [8, 12, 408]),
    }


def test_every_field_is_looked_at() -> None:
    assert {*NARROW, *BROAD} == FIELDS.keys()


def test_a_statement_that_reads_all_apps_is_noticed(database_url: str) -> None:
    async def scenario(database: Database) -> list[list[str]]:
        asked = ("SELECT FROM annotations a WHERE a.trusted", "SELECT FROM inputs WHERE number < 100")
        return [strays(await reads(database, statement)) for statement in asked]

    whole, by_number = on_grown_apps(database_url, scenario)

    assert whole == ["Seq Scan on annotations  "]
    assert len(by_number) == 1


@pytest.mark.parametrize("unit", Unit)
def test_no_filter_reads_another_app(database_url: str, unit: Unit) -> None:
    async def scenario(database: Database) -> dict[str, list[str]]:
        found = {}
        for field, value in {**NARROW, **BROAD}.items():
            for negate in (False, True):
                for name, statement in statements(query(field, value, unit, negate=negate)).items():
                    away = strays(await reads(database, statement))
                    if away:
                        found[f"{name} by {'not ' * negate}{field}"] = away
        return found

    assert on_grown_apps(database_url, scenario) == {}


@pytest.mark.parametrize("unit", Unit)
def test_no_search_of_another_time_reads_another_app(database_url: str, unit: Unit) -> None:
    async def scenario(database: Database) -> dict[str, list[str]]:
        found = {}
        for field, value in {**NARROW, **BROAD}.items():
            made = statements(query(field, value, unit, as_of=THEN))
            for name in ("candidates", "count", "surviving"):
                away = strays(await reads(database, made[name]))
                if away:
                    found[f"{name} by {field}"] = away
        away = strays(await reads(database, labels_as_of(1, ["c-2"], THEN)))
        return found | ({"labels": away} if away else {})

    assert on_grown_apps(database_url, scenario) == {}


@pytest.mark.parametrize("unit", Unit)
def test_what_few_have_is_found_by_an_index(database_url: str, unit: Unit) -> None:
    async def scenario(database: Database) -> dict[str, str]:
        found = {}
        for field, value in NARROW.items():
            for name, statement in statements(query(field, value, unit)).items():
                read = await reads(database, statement)
                # A row and the few that belong to it; an app that is read from end to end has 1500 inputs.
                if sum(item.rows for item in read if item.node != "Bitmap Index Scan") > 40 * RARE:
                    found[f"{name} by {field}"] = "; ".join(
                        f"{item.node} {item.table} {item.index} {item.rows:.0f}" for item in read
                    )
        return found

    assert 40 * RARE < INPUTS
    assert on_grown_apps(database_url, scenario) == {}
