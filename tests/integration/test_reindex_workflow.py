"""Changing an app's base workflow: its inputs are indexed beside what it has, and it switches when all of them are.

The second model is tiny and random; what is compared is which of the two an answer was made by.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    BoundingBox,
    Concept,
    Data,
    Region,
    RegionInfo,
    UserAppIDSet,
)
from tests.integration.serving import (
    PAT,
    SUCCESS,
    USER,
    Server,
    by_image,
    connected,
    home,
    of_bytes,
    picture,
    run_command,
    server_at,
    wait_for,
)
from tests.integration.serving import App as Client
from tests.tiny_models import write_tiny_model

KEY = (("authorization", f"Key {PAT}"),)
QUERY = picture(1000)


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
def place_at(folder: Path, **settings: str) -> Iterator[Place]:
    write_tiny_model(folder / "source", "clip")
    with server_at(folder, **settings) as server:
        added = run_command("models", "add", folder / "source", "--id", "tiny", "--data-dir", server.data_dir)
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
