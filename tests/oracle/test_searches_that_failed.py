"""Searches that were once answered wrongly, in every mode on every app of the bench."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import text_format
from tests.oracle.bench import Bench
from tests.oracle.conditions import timestamp
from tests.oracle.modes import lower_bounds
from tests.oracle.searches import Asked

from sightrank.search.query import Unit

#: What was wrong, and the query. Pages are short, so that the engine has to choose.
FOUND: Mapping[str, str] = {
    "one direction with two signs had the bounds of the last": """
        ranks { annotation { data { concepts { id: "cat" value: 0 } } } }
        ranks { annotation { data { concepts { id: "ai_cat" value: 1 } } } }
    """,
    "the same, negated": """
        ranks { annotation { data { concepts { id: "dog" value: 1 } image { url: "image-1" } } } }
        ranks { negate: true annotation { data { concepts { name: "Hund" language: "de" value: 1 } } } }
    """,
    "the same, of a concept with labels alone": """
        ranks { annotation { data { concepts { id: "poison" value: 1 } concepts { id: "poison" value: 0 } } } }
        filters { annotation { trusted: true } }
    """,
    "a region known by its id alone had no box": """
        filters { annotation { data { regions { region_info { bounding_box { } } } } model_version_id: "v1" } }
    """,
    "a prediction on a region passed for one of the whole": """
        filters { annotation { data { } } }
        filters { annotation { model_version_id: "v1" } }
    """,
}


@pytest.mark.parametrize("name", FOUND)
def test_search_that_failed(name: str, apps: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    lower_bounds(monkeypatch)
    search = resources_pb2.Search(query=text_format.Parse(FOUND[name], resources_pb2.Query()))

    with apps.modes() as modes:
        for oracle in apps.oracles:
            for unit in Unit:
                for limit in (1, 5, 1000):
                    apps.check_all(modes, oracle, Asked(search=search, unit=unit, offset=0, limit=limit), thorough=True)


def test_areas_made_later_count_for_no_input_of_then(apps: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ranker that scores everything scores them too, so it may not go first."""
    lower_bounds(monkeypatch)
    search = resources_pb2.Search()
    search.query.ranks.add().annotation.data.concepts.add(id="ai_cat", value=1.0)

    with apps.modes() as modes:
        for oracle in apps.oracles[1:]:
            for item in [item for item in oracle.app.inputs if len(item.embedded) > 1][:15]:
                # Its image is there already, its regions are not.
                search.as_of.CopyFrom(timestamp(item.created_us))
                for unit in Unit:
                    apps.check_all(modes, oracle, Asked(search=search, unit=unit, offset=0, limit=1000))
