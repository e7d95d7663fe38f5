"""As of: what annotations said then, which is how a saved search preserves its result (api-spec 4.7, 4.10)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Filter, Query, Search
from google.protobuf.struct_pb2 import Struct
from tests.integration.saving import Hit, code, instant, label, labelled, run, save, text
from tests.integration.serving import (
    App,
    by_concept,
    connected,
    hit_inputs,
    home,
    new_app,
    of_bytes,
    picture,
    server_at,
)

BAD_SEARCH = 40002


def annotation_ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.annotation.id for hit in hits]


def frozen(app: App, *searches: Search, kind: str = "Annotations") -> None:
    """Saves them as of the server's now."""
    ((now,),) = app.server.sql("SELECT clock_timestamp()")
    for search in searches:
        search.as_of.CopyFrom(instant(now))
    save(app, *searches, kind=kind)


def test_later_labels_do_not_change_a_preserved_result(app: App) -> None:
    app.post(text("a", "cat"), text("b"), text("c", "cat"))
    kept = label(app, "b", "cat")
    frozen(app, labelled("cat", id="an"))
    frozen(app, labelled("cat", id="in"), kind="Inputs")
    before = {name: run(app, name) for name in ("an", "in")}
    assert hit_inputs(before["in"]) == ["a", "b", "c"]

    label(app, "a", "cat")
    app.post(text("late", "cat"))
    dog = Annotation(id=kept.id, input_id="b", data=Data(concepts=[Concept(id="dog", value=1)]))
    app.call("PatchAnnotations", annotations=[dog], action="overwrite")

    for name in ("an", "in"):
        found = run(app, name)
        assert hit_inputs(found) == hit_inputs(before[name])
        assert annotation_ids(found) == annotation_ids(before[name])
    then = next(hit for hit in run(app, "an") if hit.annotation.id == kept.id).annotation
    assert [concept.id for concept in then.data.concepts] == ["cat"]
    now = app.call("PostInputsSearches", searches=[labelled("cat")]).hits
    assert hit_inputs(now) == ["a", "c", "late"]


def test_deleted_annotations_stay_in_a_preserved_result_and_deleted_inputs_do_not(app: App) -> None:
    app.post(text("a"), text("b", "cat"))
    gone = label(app, "a", "cat")
    frozen(app, labelled("cat", id="s"))

    app.call("DeleteAnnotation", input_id="a", annotation_id=gone.id)
    assert sorted(hit_inputs(run(app, "s"))) == ["a", "b"]
    app.call("DeleteInput", input_id="b")

    assert hit_inputs(run(app, "s")) == ["a"]
    assert annotation_ids(run(app, "s")) == [gone.id]


def test_a_future_as_of_includes_everything_until_then(app: App) -> None:
    app.post(text("a", "cat"))
    tomorrow = instant(datetime.now(UTC) + timedelta(days=1))
    save(app, labelled("cat", id="s", as_of=tomorrow))
    assert hit_inputs(run(app, "s")) == ["a"]

    app.post(text("b", "cat"))

    assert hit_inputs(run(app, "s")) == ["a", "b"]


def test_before_the_first_label_there_is_nothing(app: App) -> None:
    ((before,),) = app.server.sql("SELECT clock_timestamp() - interval '1 s'")
    app.post(text("a", "cat"))
    save(app, labelled("cat", id="s", as_of=instant(before)))
    assert run(app, "s") == []


def test_a_preserved_result_does_not_see_what_was_patched(app: App) -> None:
    """Metadata, a place and a region, asked for by filters and, turned round, by what they leave out."""
    app.post(text("a"), text("b"))
    region = resources_pb2.Region(
        region_info=resources_pb2.RegionInfo(bounding_box={"bottom_row": 0.5, "right_col": 1})
    )
    here = resources_pb2.Geo(geo_point=resources_pb2.GeoPoint(longitude=10, latitude=50))
    near = resources_pb2.Geo(
        geo_point=here.geo_point, geo_limit=resources_pb2.GeoLimit(type="withinKilometers", value=1)
    )
    kind, other = Struct(), Struct()
    kind.update({"kind": "then"})
    other.update({"kind": "now"})
    then = Annotation(input_id="a", data=Data(metadata=kind, geo=here, regions=[region]))
    (made,) = app.call("PostAnnotations", annotations=[then]).annotations
    asked = {
        "metadata": Annotation(data=Data(metadata=kind)),
        "place": Annotation(data=Data(geo=near)),
        "box": Annotation(data=Data(regions=[{"region_info": {"bounding_box": {}}}])),
    }
    filters = {name: Filter(annotation=annotation) for name, annotation in asked.items()}
    filters |= {f"not-{name}": Filter(annotation=annotation, negate=True) for name, annotation in asked.items()}
    searches = [Search(id=name, query=Query(filters=[item])) for name, item in filters.items()]
    frozen(app, *searches, kind="Inputs")

    # A region cannot be patched away, so the annotation goes and a word about the whole picture comes.
    app.call("DeleteAnnotation", input_id="a", annotation_id=made.id)
    app.call("PostAnnotations", annotations=[Annotation(input_id="a", data=Data(metadata=other))])

    now = {
        search.id: hit_inputs(app.call("PostInputsSearches", searches=[Search(query=search.query)]).hits)
        for search in searches
    }
    assert {name: hit_inputs(run(app, name)) for name in filters} == {
        name: ["b"] if name.startswith("not-") else ["a"] for name in filters
    }
    assert now == {name: ["a", "b"] if name.startswith("not-") else [] for name in filters}
    (hit,) = run(app, "box")
    assert hit.annotation.id == made.id
    assert hit.annotation.data.metadata["kind"] == "then"
    assert hit.annotation.data.regions[0].region_info == region.region_info


def test_before_the_history_that_is_kept_nothing_is_searched() -> None:
    month = {"SIGHTRANK_HISTORY_DAYS": "30"}
    with home() as folder, server_at(folder, **month) as server:
        server.start()
        with connected(server) as stub:
            app = new_app(server, stub)
            old, young = (instant(datetime.now(UTC) - timedelta(days=days)) for days in (31, 29))
            for fields in ({}, {"id": "old", "save": True}):
                answer = app.ask("PostInputsSearches", searches=[Search(as_of=old, **fields)])
                assert code(answer) == BAD_SEARCH
                assert "SIGHTRANK_HISTORY_DAYS" in answer.status.details
            save(app, Search(id="young", as_of=young))
            assert run(app, "young") == []
            server.sql("UPDATE searches SET message = %s RETURNING id", Search(as_of=old).SerializeToString())
            assert code(app.ask("PostSearchesByID", id="young")) == BAD_SEARCH


def test_ranks_use_the_labels_of_then(app: App) -> None:
    app.indexed(of_bytes(picture(1), "a", concepts=[Concept(id="mine", value=1)]), of_bytes(picture(2), "b"))
    frozen(app, Search(id="s", query=Query(ranks=[by_concept("mine")])))
    before = [(hit.input.id, hit.score) for hit in run(app, "s")]
    assert before[0] == ("a", 1.0)

    no, yes = Concept(id="mine", value=0), Concept(id="mine", value=1)
    app.call("PostAnnotations", annotations=[Annotation(input_id="a", data=Data(concepts=[no]))])
    app.call("PostAnnotations", annotations=[Annotation(input_id="b", data=Data(concepts=[yes]))])

    assert [(hit.input.id, hit.score) for hit in run(app, "s")] == before
    assert hit_inputs(app.rank(by_concept("mine")))[0] == "b"
