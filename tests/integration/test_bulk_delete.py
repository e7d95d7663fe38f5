"""Deleting many inputs and many annotations of many inputs, also while others write (api-spec 3.1, 3.3)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clarifai_grpc.grpc.api.resources_pb2 import Data, Input, Text
from tests.integration.serving import MIXED, SUCCESS, App, by_concept, by_image, of_bytes, picture
from tests.integration.test_annotations_post import boxed, has, on

_TABLES = ("inputs", "areas", "annotations", "labels", "past_annotations", "vectors_1")


def rows_left(app: App) -> dict[str, int]:
    """Rows of the app in each table that belongs to inputs."""
    return {
        table: app.server.sql(
            f"SELECT count(*) FROM {table} WHERE bucket = (SELECT first_bucket FROM apps WHERE id = %s)", app.id
        )[0][0]
        for table in _TABLES
    }


def text(input_id: str, **fields: Any) -> Input:
    return Input(id=input_id, data=Data(text=Text(raw=input_id), **fields))


def thin(n: int) -> Data:
    """A region of its own for each number below 100."""
    return boxed((n / 100, 0.0, (n + 1) / 100, 1.0), has("c"))


def test_of_128_deleted_inputs_nothing_is_left(app: App) -> None:
    ids = [f"i{n}" for n in range(128)]
    app.post(*(text(name, concepts=[has("c")]) for name in ids[8:]))
    app.indexed(*(of_bytes(picture(n), name, concepts=[has("c")]) for n, name in enumerate(ids[:8])))
    app.annotate(*(on(name, thin(n), "one") for n, name in enumerate(ids[:8])))
    app.patch("merge", *(on(name, Data(concepts=[has("d")]), "one") for name in ids[:8]))
    app.call("PatchInputs", action="merge", inputs=[Input(id=name, data=Data(concepts=[has("d")])) for name in ids])
    assert rows_left(app) == {
        "inputs": 128,
        "areas": 136,
        "annotations": 152,
        "labels": 272,
        "past_annotations": 136,
        "vectors_1": 16,
    }

    app.call("DeleteInputs", ids=ids)

    assert rows_left(app) == dict.fromkeys(_TABLES, 0)
    assert app.rank(by_image(picture(1))) == []
    assert app.rank(by_concept("c")) == []


def test_annotations_of_many_inputs_go_with_their_regions(app: App) -> None:
    ids = [f"i{n}" for n in range(4)]
    app.indexed(*(of_bytes(picture(n), name) for n, name in enumerate(ids)))
    app.annotate(*(on(name, thin(n), f"r{n}") for n in range(30) for name in ids))
    before = rows_left(app)
    assert (before["areas"], before["vectors_1"], before["labels"]) == (124, 124, 120)

    app.call(
        "DeleteAnnotations", input_ids=[name for name in ids for _ in range(20)], ids=[f"r{n}" for n in range(20)] * 4
    )

    after = rows_left(app)
    assert (after["areas"], after["vectors_1"], after["labels"], after["past_annotations"]) == (44, 44, 40, 80)
    assert {item.id for item in app.annotations() if not item.input_level} == {f"r{n}" for n in range(20, 30)}
    app.call("DeleteAnnotations", input_ids=ids)
    after = rows_left(app)
    assert (after["areas"], after["vectors_1"], after["labels"], after["past_annotations"]) == (4, 4, 0, 120)
    assert after["annotations"] == 8
    assert sorted(hit.input.id for hit in app.rank(by_image(picture(1)))) == ids


def test_a_call_names_up_to_128(app: App) -> None:
    app.post(text("a"))
    app.annotate(on("a", Data(), "one"))

    assert app.ask("DeleteAnnotations", input_ids=["a"] * 129, ids=["one"] * 129).status.code == 11102
    assert app.ask("DeleteAnnotations", input_ids=["a"] * 129).status.code == 11102
    assert app.ask("DeleteInputs", ids=["a"] * 129).status.code == 11102
    assert len(app.annotations()) == 2
    assert app.ask("DeleteAnnotations", input_ids=["a"] * 128, ids=["one"] * 128).status.code == SUCCESS
    assert len(app.annotations()) == 1
    assert app.ask("DeleteInputs", ids=["a"] * 128).status.code == SUCCESS
    assert app.ask("DeleteInputs", ids=["a"]).status.code == SUCCESS


def test_deleting_and_writing_at_once_leaves_no_halves(app: App) -> None:
    ids = [f"i{n}" for n in range(16)]
    app.indexed(*(of_bytes(picture(n), name) for n, name in enumerate(ids)))

    def work(n: int) -> tuple[int, Any]:
        kind = n % 4
        if kind == 0:
            return kind, app.ask("PostAnnotations", annotations=[on(name, thin(n), f"r{n}") for name in ids])
        if kind == 1:
            data = Data(concepts=[has(f"d{n}")])
            return kind, app.ask(
                "PatchAnnotations", action="merge", annotations=[on(i, data, f"r{n - 1}") for i in ids]
            )
        if kind == 2:
            return kind, app.ask("DeleteAnnotations", input_ids=ids[::-1])
        return kind, app.ask("DeleteInputs", ids=[ids[n // 4], ids[n // 4 + 8]])

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(work, range(32)))

    assert {answer.status.code for kind, answer in answers if kind > 1} == {SUCCESS}
    assert {answer.status.code for _, answer in answers} <= {SUCCESS, MIXED, 10020}
    assert app.call("ListInputs").inputs == []
    assert rows_left(app) == dict.fromkeys(_TABLES, 0)
    assert app.rank(by_image(picture(1))) == []
