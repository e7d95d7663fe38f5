"""Videos from PostInputs to hits: their frames are indexed, found, annotated and deleted (api-spec 3.1, 3.3, 4)."""

from __future__ import annotations

import io
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    Concept,
    Data,
    Filter,
    Frame,
    FrameInfo,
    Input,
    Query,
    Rank,
    Search,
)
from PIL import Image
from tests.footage import SIZE, film, moving, scene, still
from tests.integration.serving import (
    FAILED,
    INDEXED,
    MIXED,
    PAT,
    PENDING,
    USER,
    App,
    Server,
    Site,
    by_concept,
    by_image,
    hit_inputs,
    new_app,
    of_bytes,
    of_url,
    wait_for,
)

FIVE = film([1, 2, 3, 4, 5])
FRAMES = Annotation(data=Data(frames=[Frame(frame_info=FrameInfo())]))


def of_film(data: bytes = b"", input_id: str = "", *, url: str = "", **fields: Any) -> Input:
    return Input(id=input_id, data=Data(video=resources_pb2.Video(base64=data, url=url), **fields))


def has(concept_id: str, value: float = 1.0) -> Concept:
    return Concept(id=concept_id, value=value)


def at(input_id: str, *concepts: Concept, name: str = "", **info: int) -> Annotation:
    """An annotation of a frame."""
    frame = Frame(frame_info=FrameInfo(**info), data=Data(concepts=concepts))
    return Annotation(id=name, input_id=input_id, data=Data(frames=[frame]))


def search(app: App, *, filters: Sequence[Filter] = (), ranks: Sequence[Rank] = (), inputs: bool = False) -> list[Any]:
    rpc = "PostInputsSearches" if inputs else "PostAnnotationsSearches"
    return list(app.call(rpc, searches=[Search(query=Query(filters=filters, ranks=ranks))]).hits)


def times(annotations: Sequence[Annotation]) -> list[int]:
    return [frame.frame_info.time for annotation in annotations for frame in annotation.data.frames]


# Indexing -----------------------------------------------------------------------------------------------------------


def test_every_second_of_a_film_is_an_area_with_an_annotation_of_the_tagger(app: App) -> None:
    app.indexed(of_film(FIVE, "film"))

    said = [item for item in app.annotations(input_ids=["film"], list_all_annotations=True) if item.model_version_id]

    frames = sorted((item.data.frames[0] for item in said if item.data.frames), key=lambda one: one.frame_info.index)
    assert [(one.frame_info.index, one.frame_info.time) for one in frames] == [
        (0, 500),
        (1, 1500),
        (2, 2500),
        (3, 3500),
        (4, 4500),
    ]
    assert [one.frame_info.number for one in frames] == [2, 7, 12, 17, 22]
    assert {len(one.data.concepts) for one in frames} == {20}
    (whole,) = [item for item in said if not item.data.frames]
    assert len(whole.data.concepts) == 20
    areas = (
        "SELECT count(*), count(frame_index), count(v.area_id) FROM areas r LEFT JOIN vectors_1 v ON v.area_id = r.id"
    )
    where = " JOIN inputs i ON i.number = r.input_number JOIN apps p ON p.first_bucket = i.bucket WHERE p.id = %s"
    assert app.server.sql(areas + where, app.id) == [(6, 5, 6)]


@pytest.mark.parametrize("kind", ["mp4", "mov", "webm", "gif"])
def test_films_come_by_bytes_and_by_url(app: App, site: Site, kind: str) -> None:
    data = moving([1, 2, 3]) if kind == "gif" else film([1, 2, 3], kind=kind)

    app.indexed(of_film(data, "bytes"), of_bytes(still(9), "photo"))
    app.indexed(of_film(url=site.show(data, kind="video/x"), input_id="url"))

    for name in ("bytes", "url"):
        found = app.call("GetInput", input_id=name).input.data.video
        assert (found.video_info.width, found.video_info.height) == SIZE
        assert found.video_info.video_format == kind.upper()
        assert 2.9 <= found.video_info.duration_seconds <= 3.1
    hits = search(app, ranks=[by_image(still(2))])
    assert sorted(hit.input.id for hit in hits[:2]) == ["bytes", "url"]
    assert times([hit.annotation for hit in hits[:2]]) == [1500, 1500]


def test_the_app_says_how_far_apart_frames_are(server: Server, stub: service_pb2_grpc.V2Stub) -> None:
    app = App(server=server, stub=stub, id=f"app-{uuid.uuid4().hex[:12]}")
    made = resources_pb2.App(id=app.id, sample_ms=2000)
    request = service_pb2.PostAppsRequest(user_app_id=resources_pb2.UserAppIDSet(user_id=USER), apps=[made])
    stub.PostApps(request, metadata=(("authorization", f"Key {PAT}"),))

    app.indexed(of_film(FIVE, "film"))

    said = app.annotations(input_ids=["film"], list_all_annotations=True)
    assert sorted(times(said)) == [1000, 3000]


def test_a_gif_posted_as_an_image_stays_an_image(app: App) -> None:
    app.indexed(of_bytes(moving([1, 2, 3]), "gif"))

    assert times(app.annotations(input_ids=["gif"], list_all_annotations=True)) == []
    assert app.call("GetInput", input_id="gif").input.data.image.image_info.format == "GIF"


# Searching ----------------------------------------------------------------------------------------------------------


def test_a_still_finds_the_film_and_the_second_it_is_from(app: App) -> None:
    app.indexed(of_film(FIVE, "film"), of_bytes(still(7), "photo"))

    annotations = search(app, ranks=[by_image(still(4))])
    inputs = search(app, ranks=[by_image(still(4))], inputs=True)

    for hits in (annotations, inputs):
        assert hits[0].input.id == "film"
        assert hits[0].score > 0.95
        assert hits[0].annotation.data.frames[0].frame_info.time == 3500
    assert hit_inputs(annotations).count("film") == 6
    assert sorted(hit_inputs(inputs)) == ["film", "photo"]


def test_a_film_is_found_by_what_its_frames_show(app: App) -> None:
    app.indexed(of_film(FIVE, "film"))
    app.indexed(of_film(film([7, 8]), "other"))
    said = app.annotations(input_ids=["film"], list_all_annotations=True)
    likeliest = {
        frame.frame_info.time: frame.data.concepts[0] for item in said for frame in item.data.frames if item.data.frames
    }

    hits = search(app, ranks=[by_concept(likeliest[2500].id)])

    score = {
        times([hit.annotation])[0]: hit.score for hit in hits if hit.input.id == "film" and hit.annotation.data.frames
    }
    assert score[2500] == pytest.approx(likeliest[2500].value, abs=2e-3)
    assert set(score) == {500, 1500, 2500, 3500, 4500}


def test_a_film_ranks_by_the_mean_of_all_it_shows(app: App) -> None:
    app.indexed(of_film(FIVE, "film"), of_bytes(still(11), "photo"))
    app.indexed(of_film(film([1, 2, 3, 4, 5], seconds_each=2), "slow"))

    hits = search(app, ranks=[Rank(annotation=Annotation(input_id="film"))], inputs=True)

    assert hit_inputs(hits)[2] == "photo"
    assert [hit.annotation.data.frames for hit in hits[:2]] == [[], []], "the whole is nearest to the mean"
    assert hits[0].score > 0.99


def test_filters_tell_frames_from_the_whole(app: App) -> None:
    app.indexed(of_film(FIVE, "film", concepts=[has("holiday")]), of_bytes(still(2), "photo"))
    app.annotate(at("film", has("goal"), name="goal", time=2500))
    of_frames, of_the_whole = Filter(annotation=FRAMES), Filter(annotation=Annotation(data=Data()))
    of_videos = Filter(input=Input(data=Data(video=resources_pb2.Video())))

    assert [hit.annotation.id for hit in search(app, filters=[of_frames])] == ["goal"]
    assert times([hit.annotation for hit in search(app, filters=[of_frames], ranks=[by_image(still(1))])]) == [2500]
    assert hit_inputs(search(app, filters=[of_the_whole])) == ["film", "photo"]
    assert {hit.input.id for hit in search(app, filters=[of_videos])} == {"film"}
    assert hit_inputs(search(app, filters=[of_videos], inputs=True)) == ["film"]
    assert hit_inputs(search(app, filters=[of_videos], ranks=[by_image(still(2))], inputs=True)) == ["film"]
    areas = search(app, filters=[of_videos], ranks=[by_image(still(2))])
    assert (len(areas), times([areas[0].annotation])) == (6, [1500]), "five frames and the whole"
    ranked = search(app, filters=[of_videos, of_the_whole], ranks=[by_image(still(2))])
    assert [(hit.input.id, len(hit.annotation.data.frames)) for hit in ranked] == [("film", 0)]


# Limits and failures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"not a film at all", "plain text"),
        (FIVE[: len(FIVE) // 2], "MP4"),
        (still(1), "PNG image"),
        (film([1], kind="mp4")[:200], "MP4"),
    ],
    ids=["text", "half a film", "an image", "a stump"],
)
def test_what_is_no_whole_video_fails_and_says_why(app: App, data: bytes, reason: str) -> None:
    app.post(of_film(data, "bad"))

    found = app.finished("bad")

    assert found.status.code == FAILED, found
    assert reason in found.status.details


def test_a_url_without_a_film_fails(app: App, site: Site) -> None:
    (gone,) = app.post(of_film(url=site.show(b"", status=404)))

    found = app.finished(gone)

    assert found.status.code == FAILED
    assert "404" in found.status.details


def test_two_videos_in_a_call_are_refused_and_nothing_is_kept(app: App) -> None:
    answer = app.ask("PostInputs", inputs=[of_film(FIVE, "a"), of_bytes(still(1), "b"), of_film(FIVE, "c")])

    assert answer.status.code == 39999
    assert "2 videos" in answer.status.details
    assert list(app.call("ListInputs").inputs) == []


def test_a_video_and_images_in_one_call(app: App) -> None:
    names = app.indexed(of_bytes(still(1), "a"), of_film(FIVE, "film"), of_bytes(still(2), "b"))

    assert names == ["a", "film", "b"]
    assert [item.id for item in app.call("ListInputs").inputs] == ["b", "film", "a"]
    assert [item.id for item in app.call("StreamInputs").inputs] == ["a", "film", "b"]
    streamed = {item.id: item.data for item in app.call("StreamInputs").inputs}
    assert [streamed[name].HasField("video") for name in names] == [False, True, False]


def test_the_medium_that_has_something_in_it_counts(app: App) -> None:
    empty = resources_pb2.Image()
    data = Data(image=empty, text=resources_pb2.Text(), video=resources_pb2.Video(base64=film([1, 2])))

    app.indexed(Input(id="film", data=data))

    assert len(frame_areas(app)) == 2


def test_the_empty_workflow_keeps_a_video_and_the_change_to_another_indexes_it(
    server: Server, stub: service_pb2_grpc.V2Stub
) -> None:
    app = App(server=server, stub=stub, id=f"empty-{uuid.uuid4().hex[:12]}")
    request = service_pb2.PostAppsRequest(
        user_app_id=resources_pb2.UserAppIDSet(user_id=USER),
        apps=[resources_pb2.App(id=app.id, default_workflow_id="Empty")],
    )
    stub.PostApps(request, metadata=(("authorization", f"Key {PAT}"),))
    app.indexed(of_film(FIVE, "film"), of_bytes(still(9), "photo"))

    change_workflow(app, "General")

    hits = search(app, ranks=[by_image(still(3))])
    assert (hits[0].input.id, times([hits[0].annotation])) == ("film", [2500])
    assert app.call("GetInput", input_id="film").input.data.video.video_info.duration_seconds == 5.0


def test_a_bad_video_keeps_the_workflow_as_it_is(server: Server, stub: service_pb2_grpc.V2Stub) -> None:
    app = App(server=server, stub=stub, id=f"empty-{uuid.uuid4().hex[:12]}")
    request = service_pb2.PostAppsRequest(
        user_app_id=resources_pb2.UserAppIDSet(user_id=USER),
        apps=[resources_pb2.App(id=app.id, default_workflow_id="Empty")],
    )
    stub.PostApps(request, metadata=(("authorization", f"Key {PAT}"),))
    app.indexed(of_film(b"not a film at all", "bad"))

    patch_workflow(app, "General")

    def failed() -> str:
        return str(app.call("GetApp").status.details) if "bad: " in app.call("GetApp").status.details else ""

    assert "plain text" in wait_for("the change to fail", failed)
    assert app.call("GetApp").app.default_workflow.id == "Empty"


def test_indexing_anew_keeps_frames_and_what_people_said_of_them(app: App) -> None:
    app.indexed(of_film(FIVE, "film"))
    app.annotate(at("film", has("goal"), name="goal", time=2500))
    before = frame_areas(app)

    patch_workflow(app, "General", reindex=True)
    wait_for(
        "the change to end",
        lambda: (
            not app.server.sql(
                "SELECT 1 FROM reindexes r JOIN apps a ON a.first_bucket = r.bucket WHERE a.id = %s", app.id
            )
        ),
    )

    assert frame_areas(app) == before
    said = app.annotations(input_ids=["film"], list_all_annotations=True)
    assert sorted(times([item for item in said if item.model_version_id])) == [500, 1500, 2500, 3500, 4500]
    (hit, *_) = search(app, ranks=[by_image(still(3))])
    assert (hit.annotation.id, times([hit.annotation])) == ("goal", [2500])


def frame_areas(app: App) -> list[tuple[Any, ...]]:
    return app.server.sql(
        "SELECT r.id, r.frame_index, r.frame_time_ms, r.frame_number FROM areas r"
        " JOIN apps p ON p.first_bucket = r.bucket WHERE p.id = %s AND r.frame_index IS NOT NULL ORDER BY r.id",
        app.id,
    )


def patch_workflow(app: App, workflow_id: str, *, reindex: bool = False) -> None:
    changed = resources_pb2.App(id=app.id, default_workflow_id=workflow_id)
    app.call("PatchApps", action="overwrite", apps=[changed], reindex=reindex)


def change_workflow(app: App, workflow_id: str) -> None:
    patch_workflow(app, workflow_id)
    wait_for(f"the app to have {workflow_id}", lambda: app.call("GetApp").app.default_workflow.id == workflow_id)


# Annotating ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named", [{"time": 3500}, {"index": 3}, {"number": 17}, {"index": 3, "time": 3500, "number": 17}]
)
def test_people_label_a_frame_by_its_time_index_or_number(app: App, named: dict[str, int]) -> None:
    app.indexed(of_film(FIVE, "film"))

    (made,) = app.annotate(at("film", has("goal"), name="mine", **named))

    info = made.data.frames[0].frame_info
    assert (info.index, info.time, info.number) == (3, 3500, 17)
    assert [concept.id for concept in made.data.frames[0].data.concepts] == ["goal"]
    hits = search(app, ranks=[by_concept("goal")])
    assert (hits[0].score, hits[0].annotation.id) == (1.0, "mine")
    assert [hit.score for hit in hits[1:]] == pytest.approx([hit.score for hit in hits[1:]])
    assert hits[1].score < 1.0
    assert len(frame_areas(app)) == 5


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        (at("film", has("goal"), time=3200), "the nearest has index 3, time 3500"),
        (at("film", has("goal"), index=9), "the nearest has index 4"),
        (at("film", has("goal"), index=2, time=3500), "no such frame"),
        (Annotation(input_id="film", data=Data(frames=[Frame(), Frame()])), "2 frames"),
        (
            Annotation(
                input_id="film",
                data=Data(
                    regions=[
                        resources_pb2.Region(
                            region_info=resources_pb2.RegionInfo(
                                bounding_box=resources_pb2.BoundingBox(bottom_row=0.5, right_col=0.5)
                            )
                        )
                    ]
                ),
            ),
            "is a video",
        ),
        (
            Annotation(input_id="film", data=Data(frames=[Frame(data=Data(regions=[resources_pb2.Region(id="r")]))])),
            "a region in a frame",
        ),
        (
            Annotation(
                input_id="film",
                data=Data(
                    frames=[Frame(frame_info=FrameInfo(time=1500), data=Data(concepts=[has("goal")]))],
                    time_segments=[resources_pb2.TimeSegment(data=Data(concepts=[has("cheers")]))],
                ),
            ),
            "time_segments beside a frame",
        ),
    ],
    ids=["another time", "another index", "contradiction", "two frames", "region", "region in a frame", "segment"],
)
def test_what_is_no_frame_of_the_video_is_refused(app: App, annotation: Annotation, reason: str) -> None:
    app.indexed(of_film(FIVE, "film"))

    answer = app.ask("PostAnnotations", annotations=[annotation, at("film", has("fine"), time=500)])

    assert answer.status.code == MIXED
    assert [item.status.code for item in answer.annotations] == [24155, 24150]
    assert reason in answer.annotations[0].status.details


def test_a_film_that_waits_has_no_frames_yet(app: App, site: Site) -> None:
    app.post(of_film(url=site.show(b"", status=404), input_id="film"))
    app.finished("film")

    answer = app.ask("PostAnnotations", annotations=[at("film", has("goal"), time=500)])

    assert answer.annotations[0].status.code == 24155
    assert "makes them" in answer.annotations[0].status.details


def test_labels_on_the_whole_video_work_as_on_images(app: App) -> None:
    app.indexed(of_film(FIVE, "film", concepts=[has("holiday")]))
    app.indexed(of_film(film([7, 8]), "other"))
    app.annotate(Annotation(input_id="other", data=Data(concepts=[has("work")])))

    assert hit_inputs(search(app, ranks=[by_concept("holiday")], inputs=True)) == ["film", "other"]
    assert hit_inputs(search(app, ranks=[by_concept("work")], inputs=True)) == ["other", "film"]
    labelled = Filter(annotation=Annotation(data=Data(concepts=[has("work")])))
    assert hit_inputs(search(app, filters=[labelled])) == ["other"]


def test_an_annotation_of_a_frame_is_patched_where_it_is(app: App) -> None:
    app.indexed(of_film(FIVE, "film"))
    app.annotate(at("film", has("goal"), name="mine", time=3500))

    (merged,) = app.patch("merge", Annotation(input_id="film", id="mine", data=Data(concepts=[has("cheers")])))
    assert [c.id for c in merged.data.frames[0].data.concepts] == ["goal", "cheers"]
    assert times([merged]) == [3500]
    moved = app.ask("PatchAnnotations", action="merge", annotations=[at("film", has("x"), name="mine", time=500)])
    assert moved.annotations[0].status.code == 24155
    segment = Data(time_segments=[resources_pb2.TimeSegment(data=Data(concepts=[has("x")]))])
    merged_in = app.ask(
        "PatchAnnotations", action="merge", annotations=[Annotation(input_id="film", id="mine", data=segment)]
    )
    assert merged_in.annotations[0].status.code == 24155
    (replaced,) = app.patch("overwrite", Annotation(input_id="film", id="mine", data=Data(concepts=[has("foul")])))
    assert [c.id for c in replaced.data.frames[0].data.concepts] == ["foul"]
    gone = at("film", has("foul"), name="mine", time=3500)
    app.patch("remove", gone, delete_if_empty_data=True)
    assert times(app.annotations(input_ids=["film"])) == []
    assert len(frame_areas(app)) == 5


def test_metadata_of_a_film_are_patched_and_count_for_its_frames(app: App) -> None:
    app.indexed(of_film(FIVE, "film"))
    app.indexed(of_film(film([7]), "other"))
    patch = Input(id="film", data=Data())
    patch.data.metadata.update({"team": "red"})
    app.call("PatchInputs", action="merge", inputs=[patch])
    wanted = Annotation(data=Data())
    wanted.data.metadata.update({"team": "red"})

    hits = search(app, filters=[Filter(annotation=wanted)], ranks=[by_image(still(2))], inputs=True)

    assert hit_inputs(hits) == ["film"]
    assert hits[0].input.data.video.url


# Files --------------------------------------------------------------------------------------------------------------


def test_the_file_is_hosted_with_a_still(app: App, site: Site) -> None:
    url = site.show(FIVE, kind="video/mp4")
    app.indexed(of_film(FIVE, "bytes"))
    app.indexed(of_film(url=url, input_id="url"))

    uploaded, fetched = (app.call("GetInput", input_id=name).input.data.video for name in ("bytes", "url"))

    assert fetched.url == url
    assert list(uploaded.hosted.sizes) == ["orig", "thumbnail"]
    original = app.server.rest("GET", uploaded.url)
    assert (original.status_code, original.headers["content-type"]) == (200, "video/mp4")
    assert original.content == FIVE
    small = app.server.rest("GET", uploaded.thumbnail_url)
    assert (small.status_code, small.headers["content-type"]) == (200, "image/jpeg")
    shown = Image.open(io.BytesIO(small.content)).convert("RGB")
    assert shown.size == SIZE
    difference = sum(
        abs(one - other)
        for place in ((5, 5), (80, 60), (150, 110))
        for one, other in zip(shown.getpixel(place), scene(1).getpixel(place), strict=True)  # type: ignore[arg-type]
    )
    assert difference < 150
    assert app.server.rest("GET", uploaded.url.replace("/orig/", "/large/")).status_code == 404
    assert app.server.rest("GET", uploaded.url, key=None).status_code == 404


def test_the_still_of_a_film_is_an_image_to_search_by_and_to_add(app: App) -> None:
    app.indexed(of_film(FIVE, "film"))
    url = app.call("GetInput", input_id="film").input.data.video.thumbnail_url

    (hit, *_) = app.rank(by_image(url=url))
    app.indexed(of_url(url, "still"))

    assert (hit.input.id, times([hit.annotation])) == ("film", [500])
    assert app.call("GetInput", input_id="still").input.data.image.image_info.format == "JPEG"


def test_deleting_a_film_removes_all_of_it(app: App) -> None:
    app.indexed(of_film(FIVE, "film"), of_bytes(still(7), "photo"))
    search(app, ranks=[by_image(still(4))])
    file = (
        app.server.data_dir
        / "blobs"
        / app.server.sql(
            "SELECT blob FROM inputs i JOIN apps a ON a.first_bucket = i.bucket WHERE a.id = %s AND i.id = 'film'",
            app.id,
        )[0][0]
    )
    assert file.is_file()

    app.call("DeleteInputs", ids=["film"])

    assert hit_inputs(search(app, ranks=[by_image(still(4))])) == ["photo"]
    assert frame_areas(app) == []
    assert app.ask("GetInput", input_id="film").status.code == 11101


def test_jobs_count_videos(app: App) -> None:
    app.call("PostInputs", inputs=[of_film(FIVE, "film"), of_bytes(still(1), "a")], inputs_add_job_id="job")
    assert app.finished("film").status.code == INDEXED
    assert app.finished("a").status.code == INDEXED

    progress = app.call("GetInputsAddJob", id="job").inputs_add_job.progress

    assert (progress.success_count, progress.pending_count, progress.in_progress_count) == (2, 0, 0)


def test_a_new_app_takes_videos_over_rest(server: Server, stub: service_pb2_grpc.V2Stub, site: Site) -> None:
    app = new_app(server, stub)
    url = site.show(FIVE, kind="video/mp4")

    posted = app.rest("POST", "/inputs", {"inputs": [{"id": "film", "data": {"video": {"url": url}}}]})
    assert posted["inputs"][0]["status"]["code"] == PENDING
    assert app.finished("film").status.code == INDEXED
    query = {"ranks": [{"annotation": {"data": {"image": {"url": site.show(still(4), kind="image/png")}}}}]}
    hits = app.rest("POST", "/annotations/searches", {"searches": [{"query": query}]})["hits"]

    assert hits[0]["annotation"]["data"]["frames"][0]["frame_info"] == {"index": 3, "time": 3500, "number": 17}
