"""Changing an app's base workflow: its inputs are indexed beside what it has, and it switches when all of them are.

The second model is tiny and random; what is compared is which of the two an answer was made by.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    BoundingBox,
    Concept,
    Data,
    Frame,
    FrameInfo,
    Region,
    RegionInfo,
    UserAppIDSet,
)
from tests.footage import film, still
from tests.integration.serving import (
    PAT,
    SUCCESS,
    USER,
    Server,
    Site,
    by_image,
    connected,
    home,
    of_bytes,
    of_url,
    picture,
    run_command,
    server_at,
    wait_for,
)
from tests.integration.serving import App as Client
from tests.integration.teaching import new_model, reds_and_blues, trained
from tests.tiny_models import write_tiny_model

KEY = (("authorization", f"Key {PAT}"),)
QUERY = picture(1000)
RANKED = resources_pb2.Search(query=resources_pb2.Query(ranks=[by_image(QUERY)]))


@dataclass(frozen=True)
class Place:
    """A server with one added model."""

    server: Server
    stub: service_pb2_grpc.V2Stub

    def app(self, workflow_id: str, app_id: str) -> Client:
        request = service_pb2.PostAppsRequest(
            user_app_id=UserAppIDSet(user_id=USER),
            apps=[resources_pb2.App(id=app_id, default_workflow_id=workflow_id)],
        )
        answer = self.stub.PostApps(request, metadata=KEY)
        assert answer.status.code == SUCCESS, answer
        return Client(server=self.server, stub=self.stub, id=app_id)


@contextmanager
def locked(server: Server, *input_ids: str) -> Iterator[None]:
    """Holds rows of inputs still, so that a batch with one of them waits until the block is left."""
    with psycopg.connect(server.database_url, autocommit=False) as connection:
        connection.execute("SELECT FROM inputs WHERE id = ANY(%s) FOR UPDATE", [list(input_ids)])
        yield
        connection.rollback()


@contextmanager
def place_at(folder: Path, **settings: str) -> Iterator[Place]:
    with server_at(folder, **settings) as server:
        for model_id, family in (("tiny", "clip"), ("other", "siglip")):
            source = write_tiny_model(folder / model_id, family)
            added = run_command("models", "add", source, "--id", model_id, "--data-dir", server.data_dir)
            assert added.returncode == 0, added.stderr
        server.start()
        with connected(server) as stub:
            yield Place(server, stub)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with home() as folder, place_at(folder) as running:
        yield running


def patch(app: Client, workflow_id: str, *, reindex: bool = False) -> resources_pb2.App:
    """The app as the answer shows it."""
    wanted = resources_pb2.App(id=app.id, default_workflow_id=workflow_id)
    return app.call("PatchApp", app=wanted, action="overwrite", reindex=reindex).app


def workflow_of(app: Client) -> str:
    return str(app.call("GetApp").app.default_workflow_id)


def change(app: Client, workflow_id: str) -> None:
    """Asks for the workflow and waits until the app has it and nothing is left of the old one."""
    patch(app, workflow_id)
    wait_for(f"{app.id} to have {workflow_id}", lambda: workflow_of(app) == workflow_id)
    wait_for(
        "the old vectors to be gone", lambda: not app.server.sql("SELECT FROM reindexes WHERE bucket = %s", bucket(app))
    )


def bucket(app: Client) -> int:
    return int(app.server.sql("SELECT first_bucket FROM apps WHERE id = %s", app.id)[0][0])


def vectors(app: Client) -> dict[str, int]:
    """Model id to the number of vectors that the app has of it."""
    found = {}
    for number, model_id in app.server.sql("SELECT id, model_id FROM embedders"):
        rows = app.server.sql(f"SELECT count(*) FROM vectors_{number} WHERE bucket = %s", bucket(app))
        if rows[0][0]:
            found[model_id] = rows[0][0]
    return found


def taggers(app: Client) -> dict[str, int]:
    """The models whose predictions the app has, and how many of each."""
    rows = app.server.sql(
        "SELECT model_id, count(*) FROM annotations WHERE bucket = %s AND model_version_id <> '' GROUP BY 1",
        bucket(app),
    )
    return dict(rows)


def scores(app: Client) -> tuple[float, ...]:
    """How alike every input is to one picture: they tell by which model."""
    return tuple(sorted(round(hit.score, 4) for hit in app.rank(by_image(QUERY))))


def waits_for_a_lock(app: Client, statement: str) -> bool:
    rows = app.server.sql("SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    return any(statement in query for (query,) in rows)


def is_half_way(app: Client) -> bool:
    """Whether a first batch is done and the next one waits for a locked input."""
    return staged(app) == 64 and waits_for_a_lock(app, "FROM inputs")


def staged(app: Client) -> int:
    rows = app.server.sql("SELECT count(*) FROM reindexed_areas WHERE bucket = %s", bucket(app))
    return int(rows[0][0])


def pictures(count: int, first: int = 0) -> list[resources_pb2.Input]:
    return [of_bytes(picture(first + number), f"p{first + number}") for number in range(count)]


def region(input_id: str, region_id: str) -> Annotation:
    box = BoundingBox(top_row=0.1, left_col=0.1, bottom_row=0.6, right_col=0.5)
    said = Data(concepts=[Concept(id="mine", value=1)])
    place = Region(id=region_id, region_info=RegionInfo(bounding_box=box), data=said)
    return Annotation(input_id=input_id, data=Data(regions=[place]))


@dataclass
class Searcher:
    """Searches again and again beside a test; ``found`` has the scores of each answer."""

    app: Client
    found: list[tuple[float, ...]] = field(default_factory=list)
    wrong: list[BaseException] = field(default_factory=list)

    @contextmanager
    def searching(self) -> Iterator[None]:
        done = threading.Event()

        def search() -> None:
            while not done.is_set():
                try:
                    self.found.append(scores(self.app))
                except BaseException as error:
                    self.wrong.append(error)
                    return

        threads = [threading.Thread(target=search) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join()


def test_an_app_changes_its_workflow_and_back_while_it_is_searched(place: Place) -> None:
    app = place.app("General", "there-and-back")
    app.indexed(*pictures(40))
    general = scores(app)
    searcher = Searcher(app)

    with searcher.searching():
        answered = patch(app, "Universal")
        change(app, "Universal")
        wait_for("searches by the new model", lambda: len(set(searcher.found)) == 2)
        universal = scores(app)
        kept = vectors(app), taggers(app)
        change(app, "General")
        seen = len(searcher.found)
        wait_for("searches after the change back", lambda: len(searcher.found) > seen + 4 or searcher.wrong)

    assert answered.default_workflow_id == "General"
    assert searcher.wrong == []
    assert set(searcher.found) == {general, universal}
    assert kept == ({"tiny": 40}, {"tiny-image-recognition": 40})
    assert scores(app) == general
    assert (vectors(app), taggers(app)) == ({"general": 40}, {"general-image-recognition": 40})


def test_what_is_posted_annotated_and_deleted_meanwhile_is_in_the_new_index(place: Place) -> None:
    app = place.app("General", "meanwhile")
    app.indexed(*pictures(70))

    with locked(place.server, "p69"):
        patch(app, "Universal")
        wait_for("one batch to be done and one to wait", lambda: is_half_way(app))
        app.indexed(*pictures(3, first=100))
        app.call("DeleteInputs", ids=["p0", "p1"])
        app.annotate(region("p2", "r2"), region("p100", "r100"))
        during = workflow_of(app), vectors(app)["general"]
    wait_for("the change", lambda: workflow_of(app) == "Universal")
    (late,) = app.indexed(*pictures(1, first=200))
    app.annotate(region("p3", "r3"))
    wait_for("the old vectors to be gone", lambda: set(vectors(app)) == {"tiny"})

    found = {hit.input.id for hit in app.rank(by_image(QUERY), inputs=True, per_page=200)}
    assert during == ("General", 73)
    assert found == {f"p{number}" for number in (*range(2, 70), 100, 101, 102)} | {late}
    assert vectors(app) == {"tiny": 72 + 3}
    assert taggers(app) == {"tiny-image-recognition": 72 + 3}


def test_a_change_goes_on_after_kill_9(place: Place) -> None:
    app = place.app("General", "killed")
    app.indexed(*pictures(70))

    with locked(place.server, "p69"):
        patch(app, "Universal")
        wait_for("one batch to be done and one to wait", lambda: is_half_way(app))
        place.server.kill()
    place.server.start()
    wait_for("the change", lambda: workflow_of(app) == "Universal")
    wait_for("the old vectors to be gone", lambda: set(vectors(app)) == {"tiny"})

    assert vectors(app) == {"tiny": 70}
    assert taggers(app) == {"tiny-image-recognition": 70}
    assert len(app.rank(by_image(QUERY), per_page=200)) == 70


def test_two_servers_of_one_database_share_a_change_and_answer_alike(database_url: str) -> None:
    with home() as folder:
        shared = {"SIGHTRANK_DATABASE_URL": database_url, "SIGHTRANK_BLOB_URL": str(folder / "blobs")}
        with place_at(folder / "one", **shared) as one, server_at(folder / "two", **shared) as other:
            models = one.server.data_dir / "models"
            shutil.copytree(models, other.data_dir / "models")
            other.start()
            app = one.app("General", "shared")
            app.indexed(*pictures(120))
            with connected(other) as stub:
                there = Client(server=other, stub=stub, id=app.id)
                general, seen_there = scores(app), scores(there)
                searcher = Searcher(there)

                with searcher.searching():
                    with locked(one.server, "p119"):
                        patch(app, "Universal")
                        wait_for("one batch to be done and one to wait", lambda: is_half_way(app))
                        one.server.stop()
                    one.server.start()
                    wait_for("the change", lambda: workflow_of(there) == "Universal")
                    wait_for("searches by the new model", lambda: len(set(searcher.found)) == 2 or searcher.wrong)
                wait_for("the old vectors to be gone", lambda: set(vectors(there)) == {"tiny"})

                assert searcher.wrong == []
                assert seen_there == general
                assert set(searcher.found) == {general, scores(there)}
                assert vectors(there) == {"tiny": 120}
                wait_for("the restarted server to be reached", lambda: scores(app) == scores(there))


def test_patching_back_calls_the_change_off(place: Place) -> None:
    app = place.app("General", "called-off")
    app.indexed(*pictures(70))
    before = scores(app)

    with locked(place.server, "p69"):
        patch(app, "Universal")
        wait_for("one batch to be done and one to wait", lambda: is_half_way(app))
        shown = app.call("GetApp").status.details
        counts = app.call("GetInputCount").counts
        said = run_command("doctor", "--data-dir", place.server.data_dir).stdout
        back = threading.Thread(target=patch, args=(app, "General"))
        back.start()
        wait_for("the patch to wait", lambda: waits_for_a_lock(app, "FROM reindexes"))
    back.join()
    wait_for("nothing to be left", lambda: not app.server.sql("SELECT FROM reindexes WHERE bucket = %s", bucket(app)))

    assert "being changed to Universal: 64 of 70 inputs" in shown
    assert (counts.processed, counts.reindexed, counts.to_reindex) == (70, 64, 6)
    assert "re-indexing (General to Universal, 64 of 70 inputs indexed)" in " ".join(said.split())
    assert workflow_of(app) == "General"
    assert (vectors(app), taggers(app), staged(app)) == ({"general": 70}, {"general-image-recognition": 70}, 0)
    assert scores(app) == before
    assert app.call("GetApp").status.details == ""


def test_a_third_workflow_starts_from_nothing(place: Place) -> None:
    app = place.app("General", "third")
    app.indexed(*pictures(70))

    with locked(place.server, "p69"):
        patch(app, "Universal")
        wait_for("one batch to be done and one to wait", lambda: is_half_way(app))
        third = threading.Thread(target=patch, args=(app, "other"))
        third.start()
        wait_for("the patch to wait", lambda: waits_for_a_lock(app, "FROM reindexes"))
    third.join()
    wait_for("the change", lambda: workflow_of(app) == "other")
    wait_for("the old vectors to be gone", lambda: set(vectors(app)) == {"other"})

    assert vectors(app) == {"other": 70}
    assert taggers(app) == {"other-image-recognition": 70}


def test_an_input_that_cannot_be_looked_at_again_keeps_the_old_workflow(place: Place) -> None:
    app = place.app("General", "damaged")
    app.indexed(*pictures(5))
    before = scores(app)
    ((blob,),) = app.server.sql("SELECT blob FROM inputs WHERE bucket = %s AND id = 'p3'", bucket(app))
    (place.server.data_dir / "blobs" / blob).write_bytes(b"no picture any more")

    patch(app, "Universal")
    failed = wait_for("the failure", lambda: "stays as it is" in app.call("GetApp").status.details)
    told = app.call("GetApp").status.details
    counts = app.call("GetInputCount").counts
    said = run_command("doctor", "--data-dir", place.server.data_dir)
    kept = workflow_of(app), scores(app), taggers(app)
    app.call("DeleteInputs", ids=["p3"])
    change(app, "Universal")

    assert failed
    assert "1 input(s) could not be indexed by Universal: p3: " in told
    assert (counts.reindexed, counts.to_reindex, counts.reindex_errors) == (4, 0, 1)
    assert said.returncode == 1
    assert "p3: " in said.stdout
    assert "p3: " in place.server.log
    assert kept == ("General", before, {"general-image-recognition": 5})
    assert vectors(app) == {"tiny": 4}


def test_an_app_is_emptied_at_once_and_indexed_from_nothing(place: Place, site: Site) -> None:
    app = place.app("Empty", "empty")
    app.indexed(*pictures(2), of_url(site.show(picture(7)), "fetched"))

    change(app, "General")
    indexed = vectors(app), taggers(app), len(app.rank(by_image(QUERY)))
    size = app.call("GetInput", input_id="fetched").input.data.image.image_info.width
    emptied = patch(app, "Empty").default_workflow_id
    refused = app.ask("PostAnnotationsSearches", searches=[RANKED]).status
    wait_for("the vectors to be gone", lambda: not vectors(app) and not taggers(app))

    assert indexed == ({"general": 3}, {"general-image-recognition": 3}, 3)
    assert size == 96
    assert emptied == "Empty"
    assert (refused.code, "Empty" in refused.details) == (40002, True)


def test_reindex_runs_the_same_workflow_again(place: Place) -> None:
    app = place.app("General", "again")
    app.indexed(*pictures(5))
    before = scores(app)
    app.server.sql("DELETE FROM annotations WHERE bucket = %s AND model_version_id <> '' RETURNING 1", bucket(app))

    patch(app, "", reindex=True)
    wait_for("the predictions", lambda: taggers(app) == {"general-image-recognition": 5})

    assert scores(app) == before
    assert vectors(app) == {"general": 5}


def test_a_region_that_was_looked_at_by_another_workflow_is_looked_at_again(place: Place) -> None:
    app = place.app("General", "annotated")
    app.indexed(of_bytes(picture(300), "p300"))

    with locked(place.server, "p300"):
        posting = threading.Thread(target=app.annotate, args=(region("p300", "r300"),))
        posting.start()
        wait_for("the annotation to wait", lambda: waits_for_a_lock(app, "FROM inputs"))
        app.server.sql("UPDATE apps SET workflow_id = 'tiny' WHERE id = %s RETURNING id", app.id)
    posting.join()

    (prediction,) = app.server.sql(
        "SELECT p.model_id FROM annotations p JOIN areas r ON r.bucket = p.bucket AND r.id = p.area_id"
        " WHERE p.bucket = %s AND r.region_id = 'r300' AND p.model_version_id <> ''",
        bucket(app),
    )
    assert prediction == ("tiny-image-recognition",)
    assert vectors(app) == {"general": 1, "tiny": 1}


def frames_of(app: Client) -> list[tuple[object, ...]]:
    rows = "SELECT id, frame_index, frame_time_ms FROM areas WHERE bucket = %s AND frame_index IS NOT NULL ORDER BY id"
    return app.server.sql(rows, bucket(app))


def test_videos_are_indexed_anew_frame_by_frame_and_keep_what_was_said_of_them(place: Place) -> None:
    app = place.app("General", "films")
    video = resources_pb2.Input(id="film", data=Data(video=resources_pb2.Video(base64=film([1, 2, 3]))))
    app.indexed(video, of_bytes(still(9), "photo"))
    goal = Frame(frame_info=FrameInfo(time=1500), data=Data(concepts=[Concept(id="goal", value=1)]))
    app.annotate(Annotation(id="mine", input_id="film", data=Data(frames=[goal])))
    before = frames_of(app)

    change(app, "tiny")

    assert vectors(app) == {"tiny": 5}
    assert taggers(app) == {"tiny-image-recognition": 5}
    assert frames_of(app) == before
    hit = app.rank(by_image(still(2)))[0]
    assert (hit.annotation.id, hit.annotation.data.frames[0].frame_info.time) == ("mine", 1500)
    assert hit.score > 0.99
    said = app.annotations(input_ids=["film"], list_all_annotations=True)
    times = sorted(part.frame_info.time for item in said if item.model_version_id for part in item.data.frames)
    assert times == [500, 1500, 2500]

    change(app, "Empty")
    assert (vectors(app), taggers(app), len(frames_of(app))) == ({}, {}, 3)
    change(app, "General")
    assert (sum(vectors(app).values()), frames_of(app)) == (5, before)


def test_trained_models_come_along(place: Place) -> None:
    """They are fitted to the new vectors before the app has them, from what they were trained with."""
    app = place.app("General", "taught")
    reds_and_blues(app)
    new_model(app)
    version = trained(app, "red", "blue")
    app.call("PatchInputs", action="remove", inputs=[labelled_so(app, "red")])

    patch(app, "tiny")
    wait_for("the change", lambda: workflow_of(app) == "tiny")

    rows = app.server.sql(
        "SELECT e.model_id, f.model_version_id FROM model_fits f JOIN embedders e ON e.id = f.embedder_id"
        " WHERE f.bucket = %s ORDER BY f.created_at",
        bucket(app),
    )
    assert rows == [("general", version.id), ("tiny", version.id)]
    after = app.call("GetModelVersion", model_id="colours", version_id=version.id).model_version
    assert after == version


def labelled_so(app: Client, concept_id: str) -> resources_pb2.Input:
    """An input that has the label, as a patch names it."""
    found = app.call("ListInputs").inputs
    input_id = next(item.id for item in found if [concept.id for concept in item.data.concepts] == [concept_id])
    return resources_pb2.Input(id=input_id, data=Data(concepts=[Concept(id=concept_id)]))
