"""One real server serves the whole contract session. Tests that write do so in an app of their own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Concept, UserAppIDSet
from tests.contract.clients import DOG, SUCCESS, App, Channel, connected, key, of_bytes, of_url
from tests.contract.pictures import Picture, PictureServer, pictures, serving
from tests.contract.serving import Server, running_server

#: Makes an App of a new application, through the stub given.
NewApp = Callable[[service_pb2_grpc.V2Stub], App]


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """What the app that everybody reads holds. Nobody writes to it."""

    pictures: dict[str, Picture]  # by input id; every second one was uploaded, the others came by URL
    urls: dict[str, str]  # of those that came by URL
    cat: str  # labelled "cat"
    cat_and_dog: str  # labelled "cat" and clarifai/main's "dog"
    favourites: frozenset[str]  # labelled "favourite", a concept of the app's own


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def photos() -> list[Picture]:
    return pictures()


@pytest.fixture(scope="session")
def site(photos: list[Picture]) -> Iterator[PictureServer]:
    with serving(photos) as running:
        yield running


@pytest.fixture(scope="session")
def grpc_stub(server: Server) -> Iterator[service_pb2_grpc.V2Stub]:
    with connected(server, "grpc") as stub:
        yield stub


@pytest.fixture(params=["grpc", "json"])
def stub(request: pytest.FixtureRequest, server: Server) -> Iterator[service_pb2_grpc.V2Stub]:
    """The official client on both of its channels, one after the other."""
    channel: Channel = request.param
    with connected(server, channel) as open_stub:
        yield open_stub


@pytest.fixture(scope="session")
def new_app(server: Server) -> NewApp:
    def make(stub: service_pb2_grpc.V2Stub) -> App:
        app_id = f"app-{uuid.uuid4().hex[:12]}"
        owner = UserAppIDSet(user_id=server.user_id)
        request = service_pb2.PostAppsRequest(user_app_id=owner, apps=[resources_pb2.App(id=app_id)])
        answer = stub.PostApps(request, metadata=key(server.pat))
        assert answer.status.code == SUCCESS, answer
        user_app_id = UserAppIDSet(user_id=server.user_id, app_id=app_id)
        return App(stub=stub, metadata=key(server.pat), user_app_id=user_app_id)

    return make


@pytest.fixture
def app(stub: service_pb2_grpc.V2Stub, new_app: NewApp) -> App:
    """A new, empty application, on both channels in turn."""
    return new_app(stub)


@pytest.fixture(scope="session")
def library(server: Server, grpc_stub: service_pb2_grpc.V2Stub, photos: list[Picture], site: PictureServer) -> Library:
    """The first app, full of pictures. The first two are labelled, the last three are favourites."""
    # The dog is clarifai/main's: a label "dog" would make a concept of this app's own, and rank by that from then on.
    labels = {0: [Concept(id="cat", value=1)], 1: [Concept(id="cat", value=1), Concept(id=DOG, value=1)]}
    labels |= {len(photos) - n: [Concept(id="favourite", value=1)] for n in (1, 2, 3)}
    names = [f"picture-{picture.name}" for picture in photos]
    inputs = [
        of_bytes(picture, id=name, concepts=labels.get(number, []))
        if number % 2
        else of_url(site, picture, id=name, concepts=labels.get(number, []))
        for number, (name, picture) in enumerate(zip(names, photos, strict=True))
    ]
    whole = UserAppIDSet(user_id=server.user_id, app_id=server.app_id)
    assert App(stub=grpc_stub, metadata=key(server.pat), user_app_id=whole).post(inputs) == names
    return Library(
        pictures=dict(zip(names, photos, strict=True)),
        urls={name: site.url(picture) for name, picture in list(zip(names, photos, strict=True))[::2]},
        cat=names[0],
        cat_and_dog=names[1],
        favourites=frozenset(names[-3:]),
    )


@pytest.fixture
def reader(library: Library, server: Server, grpc_stub: service_pb2_grpc.V2Stub) -> App:
    """The library over plaintext gRPC, with the app key and no app id, as the guide's snippets call."""
    return App(stub=grpc_stub, metadata=key(server.api_key), user_app_id=None)


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """Where downloaded packages are kept from run to run, outside the project."""
    folder = Path(os.environ.get("SIGHTRANK_TEST_CACHE") or Path.home() / ".cache" / "sightrank-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
