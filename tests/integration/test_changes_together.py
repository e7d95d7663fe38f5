"""Everything that changes an app at once: whatever the order, what is left fits together."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Input
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from tests.integration.serving import FAILURE, INDEXED, MIXED, SUCCESS, App, by_concept, of_bytes, picture, wait_for
from tests.integration.test_annotations_change import struct
from tests.integration.test_annotations_post import boxed, has, on

INPUTS = [f"i{n}" for n in range(6)]
_MINE = "bucket = (SELECT first_bucket FROM apps WHERE id = %(app)s)"
#: Each finds rows that should not be.
_FAULTS = {
    "labels that no annotation gives": f"""
        SELECT concept_id, area_id, annotation_id, value, trusted, modified_at FROM labels WHERE {_MINE}
        EXCEPT SELECT c.id, area_id, a.id, c.value, trusted, modified_at
        FROM annotations a, unnest(concept_ids, concept_values) c (id, value)
        WHERE {_MINE} AND model_version_id = ''""",
    "annotations whose labels are missing": f"""
        SELECT c.id, area_id, a.id, c.value, trusted, modified_at
        FROM annotations a, unnest(concept_ids, concept_values) c (id, value) WHERE {_MINE} AND model_version_id = ''
        EXCEPT SELECT concept_id, area_id, annotation_id, value, trusted, modified_at FROM labels WHERE {_MINE}""",
    "areas without a vector": f"""
        SELECT id FROM areas WHERE {_MINE} EXCEPT SELECT area_id FROM vectors_1 WHERE {_MINE}""",
    "areas without a prediction, or with two": f"""
        SELECT r.id, count(a.id) FROM areas r LEFT JOIN annotations a
        ON a.bucket = r.bucket AND a.area_id = r.id AND a.model_version_id <> ''
        WHERE r.{_MINE} GROUP BY r.id HAVING count(a.id) <> 1""",
    "regions nobody speaks of": f"""
        SELECT id FROM areas WHERE {_MINE} AND region_id IS NOT NULL
        EXCEPT SELECT area_id FROM annotations WHERE {_MINE} AND model_version_id = ''""",
    "places that are not those of the area": f"""
        SELECT a.id, a.data FROM annotations a JOIN areas r ON r.bucket = a.bucket AND r.id = a.area_id
        WHERE a.{_MINE} AND r.region_id IS NOT NULL AND abs(r.box_top
        - coalesce((a.data #> '{{regions,0,region_info,bounding_box,top_row}}')::real, 0)) > 1e-6""",
    "versions that overlap or leave a hole": f"""
        SELECT id, began, ended, next FROM (
            SELECT id, began, ended,
                lead(began) OVER (PARTITION BY input_number, id, created_at ORDER BY began) AS next,
                count(*) FILTER (WHERE ended IS NULL) OVER (PARTITION BY input_number, id) AS living
            FROM (
                SELECT input_number, id, created_at, modified_at AS began, until AS ended
                FROM past_annotations WHERE {_MINE}
                UNION ALL SELECT input_number, id, created_at, modified_at, NULL
                FROM annotations WHERE {_MINE} AND model_version_id = ''
            ) each
        ) chain WHERE began >= ended OR ended <> next OR living > 1""",
}


def faults(app: App) -> dict[str, list[Any]]:
    return {name: app.server.sql(statement.replace("%(app)s", f"'{app.id}'")) for name, statement in _FAULTS.items()}


def band(n: int) -> tuple[float, float, float, float]:
    return (n / 10, 0.0, (n + 1) / 10, 1.0)


def acts(app: App) -> list[Callable[[random.Random], Any]]:
    def items(dice: random.Random) -> list[tuple[str, str]]:
        return [(name, f"n{dice.randrange(4)}") for name in dice.sample(INPUTS, 3)]

    def post(dice: random.Random) -> Any:
        kind = [Data(concepts=[has(f"c{dice.randrange(9)}")]), boxed(band(dice.randrange(9)), has("boxed"))]
        return app.ask("PostAnnotations", annotations=[on(i, dice.choice(kind), name) for i, name in items(dice)])

    def label(dice: random.Random) -> Any:
        data = Data(concepts=[has(f"c{dice.randrange(9)}", dice.randrange(2))], metadata=struct(n=dice.randrange(9)))
        action = dice.choice(["merge", "overwrite", "remove"])
        patches = [Annotation(input_id=i, id=name, data=data) for i, name in items(dice)]
        return app.ask("PatchAnnotations", action=action, annotations=patches, delete_if_empty_data=True)

    def move(dice: random.Random) -> Any:
        patches = [on(i, boxed(band(dice.randrange(9))), name) for i, name in items(dice)]
        return app.ask("PatchAnnotations", action="merge", annotations=patches)

    def judge(dice: random.Random) -> Any:
        status = Status(code=dice.choice([24150, 24151]))
        patches = [Annotation(input_id=i, id=name, status=status) for i, name in items(dice)]
        return app.ask("PatchAnnotations", action="merge", annotations=patches)

    def patch(dice: random.Random) -> Any:
        data = Data(concepts=[Concept(id=f"c{dice.randrange(9)}", value=dice.randrange(2))])
        inputs = [Input(id=name, data=data) for name in dice.sample(INPUTS, 4)]
        return app.ask("PatchInputs", action=dice.choice(["merge", "overwrite", "remove"]), inputs=inputs)

    def drop(dice: random.Random) -> Any:
        pairs = items(dice)
        return app.ask("DeleteAnnotations", input_ids=[i for i, _ in pairs], ids=[name for _, name in pairs])

    def renew(dice: random.Random) -> Any:
        number = dice.randrange(len(INPUTS))
        app.ask("DeleteInputs", ids=[INPUTS[number]])
        return app.ask("PostInputs", inputs=[of_bytes(picture(number), INPUTS[number])])

    return [post, post, label, move, judge, patch, drop, renew]


def test_what_is_left_fits_together(app: App) -> None:
    app.indexed(*(of_bytes(picture(n), name) for n, name in enumerate(INPUTS)))
    made = acts(app)

    def work(seed: int) -> Any:
        dice = random.Random(seed)
        return dice.choice(made)(dice)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(work, range(240)))

    odd = [answer.status for answer in answers if answer.status.code not in (SUCCESS, MIXED, FAILURE)]
    assert odd == []
    wait_for(
        "all inputs to be indexed",
        lambda: {item.status.code for item in app.call("ListInputs").inputs} == {INDEXED},
    )
    assert {name: rows for name, rows in faults(app).items() if rows} == {}
    said = [Data(concepts=[Concept(id="c1", value=n % 2)]) for n in range(len(INPUTS))]
    app.call(
        "PatchInputs",
        action="merge",
        inputs=[Input(id=name, data=data) for name, data in zip(INPUTS, said, strict=True)],
    )
    latest = {
        item.input_id: concept.value
        for item in sorted(app.annotations(), key=lambda item: item.modified_at.ToNanoseconds())
        if item.trusted and not item.data.regions
        for concept in item.data.concepts
        if concept.id == "c1"
    }
    scores = {hit.input.id: hit.score for hit in app.rank(by_concept("c1")) if not hit.annotation.data.regions}
    assert latest == {name: n % 2 for n, name in enumerate(INPUTS)}
    assert {name: scores[name] for name in latest} == latest
