"""The selectors of ListAnnotations, alone and together (api-spec 3.3), and that each has an index."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clarifai_grpc.grpc.api import service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Data
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from psycopg import sql
from tests.integration.serving import USER, App, of_bytes, picture
from tests.integration.test_annotations_post import has, on

from sightrank.api.annotation_list import Selection
from sightrank.api.pages import Page
from sightrank.store.database import Database

PENDING, DENIED = Status(code=24151), Status(code=24158)


def listed(app: App, **fields: Any) -> list[str]:
    """Ids, those of the input-level ones and of predictions by what they are."""

    def name(found: Annotation) -> str:
        kind = "input" if found.input_level else "model" if found.model_version_id else ""
        return f"{kind}:{found.input_id}" if kind else found.id

    return [name(found) for found in app.annotations(**fields)]


@pytest.fixture
def full(app: App) -> App:
    """Two indexed inputs; x, y on a and z, y on b, posted in this order."""
    app.indexed(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
    data = Data(concepts=[has("c")])
    app.annotate(on("a", data, "x"), on("a", data, "y", status=PENDING, task_id="t1"))
    app.annotate(on("b", data, "z", status=DENIED, task_id="t1"), on("b", data, "y", task_id="t2"))
    return app


def version(app: App) -> str:
    return next(item.model_version_id for item in app.annotations(list_all_annotations=True) if item.model_version_id)


def test_people_first_and_models_when_asked_for(full: App) -> None:
    people = ["y", "z", "y", "x", "input:b", "input:a"]
    assert listed(full) == people
    everything = listed(full, list_all_annotations=True)
    assert [name for name in everything if not name.startswith("model")] == people
    assert sorted(name for name in everything if name.startswith("model")) == ["model:a", "model:b"]
    created = [item.created_at.ToNanoseconds() for item in full.annotations(list_all_annotations=True)]
    assert created == sorted(created, reverse=True)


def test_of_inputs_and_of_pairs(full: App) -> None:
    assert listed(full, input_ids=["b"]) == ["y", "z", "input:b"]
    assert listed(full, input_ids=["a", "b", "nobody"]) == ["y", "z", "y", "x", "input:b", "input:a"]
    assert listed(full, input_ids=["a", "b"], ids=["y", "z"]) == ["z", "y"]
    assert listed(full, input_ids=["a", "a"], ids=["x", "y"]) == ["y", "x"]
    assert listed(full, input_ids=["a"], ids=["z"]) == []
    assert [item.input_id for item in full.annotations(ids=["y"])] == ["b", "a"]
    assert listed(full, input_ids=["a", "zero\0"], ids=["x", "y"]) == ["x"]
    assert listed(full, ids=["zero\0"]) == []
    assert full.ask("ListAnnotations", input_ids=["a"], ids=["x", "y"]).status.code == 11102


def test_ids_find_predictions_too(full: App) -> None:
    (predicted,) = [
        item for item in full.annotations(input_ids=["a"], list_all_annotations=True) if item.model_version_id
    ]

    assert listed(full, ids=[predicted.id]) == ["model:a"]
    assert listed(full, ids=[predicted.id, "x"], input_ids=["a", "a"]) == ["x", "model:a"]
    assert listed(full, ids=[predicted.id], user_ids=["me"]) == []


def test_workers_are_a_union(full: App) -> None:
    people, both = ["y", "z", "y", "x", "input:b", "input:a"], {"model_version_ids": [version(full)]}

    assert (
        listed(full, user_ids=["me"]) == listed(full, user_ids=[USER]) == listed(full, user_ids=["no", USER]) == people
    )
    assert sorted(listed(full, **both)) == ["model:a", "model:b"]
    assert sorted(listed(full, workflow_version_ids=[version(full)])) == ["model:a", "model:b"]
    assert listed(full, user_ids=["me"], **both) == listed(full, list_all_annotations=True)
    assert listed(full, user_ids=["nobody"], list_all_annotations=True) == []
    assert listed(full, user_ids=["nobody"], model_version_ids=["none", "either"]) == []
    assert listed(full, user_ids=["zero\0"]) == []
    assert listed(full, model_version_ids=["zero\0"], list_all_annotations=True) == []


def test_statuses_and_tasks(full: App) -> None:
    assert listed(full, statuses=[PENDING]) == ["y"]
    assert [item.input_id for item in full.annotations(statuses=[PENDING, DENIED])] == ["b", "a"]
    assert listed(full, statuses=[Status(code=24159)]) == []
    assert listed(full, task_id="t1") == ["z", "y"]
    assert listed(full, task_id="t3") == []
    assert listed(full, task_id="t1", statuses=[DENIED], input_ids=["b"], user_ids=["me"]) == ["z"]


def test_pages_of_a_union_neither_skip_nor_repeat(full: App) -> None:
    everything = listed(full, list_all_annotations=True)

    pages = [listed(full, list_all_annotations=True, per_page=3, page=page) for page in (1, 2, 3, 4)]

    assert [name for page in pages for name in page] == everything
    assert [len(page) for page in pages] == [3, 3, 2, 0]


def test_a_prediction_says_what_it_says_whether_or_not_that_is_asked_for(full: App) -> None:
    def said(**fields: Any) -> list[str]:
        found = full.annotations(model_version_ids=[version(full)], input_ids=["a"], **fields)
        return [concept.id for item in found for concept in item.data.concepts]

    assert len(said()) == 20
    assert said(return_model_output=True) == said()


# Indexes ------------------------------------------------------------------------------------------------------------

_SEED = """
INSERT INTO app_buckets (bucket) SELECT generate_series(1, 4);
INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media)
SELECT 1 + n % 4, n, 'in-' || n, to_timestamp(n), to_timestamp(n), 30000, 'image' FROM generate_series(1, 6000) n;
INSERT INTO areas (bucket, id, input_number, created_at) SELECT bucket, number, number, created_at FROM inputs;
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted,
    user_id, model_version_id, task_id)
SELECT bucket, number, 'a-' || number, number, created_at, created_at,
    CASE WHEN number % 100 < 4 THEN 24151 ELSE 24150 END, true, true, 'user-' || number % 7, '',
    CASE WHEN number % 100 < 8 THEN 't' ELSE '' END FROM inputs
UNION ALL
SELECT bucket, number, 'm-' || number, number, created_at, created_at, 24150, false, false, '', 'v' || number % 3, ''
FROM inputs;
ANALYZE;
"""


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"list_all_annotations": True},
        {"input_ids": ["in-8", "in-12"]},
        {"input_ids": ["in-8"], "list_all_annotations": True},
        {"input_ids": ["in-8", "in-12"], "ids": ["a-8", "a-12"]},
        {"ids": ["a-8"]},
        {"user_ids": ["user-1"]},
        {"model_version_ids": ["v1"]},
        {"user_ids": ["user-1"], "model_version_ids": ["v1"]},
        {"statuses": [PENDING]},
        {"task_id": "t"},
    ],
    ids=str,
)
def test_the_first_page_of_every_selector_is_read_by_index(database_url: str, fields: dict[str, Any]) -> None:
    selection = Selection.parse(service_pb2.ListAnnotationsRequest(**fields), me="user-1")
    statement, parameters = selection.statement(1, Page(1, 20))

    async def plan() -> str:
        database = Database(database_url)
        await database.open()
        try:
            async with database.connection() as connection:
                await connection.execute(_SEED)
            explain = sql.SQL("EXPLAIN ") + statement
            return "\n".join(line for (line,) in await database.rows(explain, parameters))
        finally:
            await database.close()

    found = asyncio.run(plan())

    assert "Seq Scan" not in found, found
    # Whoever asks for much is served from an index in the order of the list, one for each kind of worker.
    if not {"input_ids", "ids", "statuses", "task_id"} & fields.keys():
        kinds = 2 if len(fields) > 1 or "list_all_annotations" in fields else 1
        assert found.count("Index Scan Backward using annotations_by") == kinds, found
