"""A real PostgreSQL for every test: one server for the session, one fresh migrated database for each test.

``SIGHTRANK_TEST_DATABASE_URL`` names a server to use instead of the embedded one; its user must be able to make
databases. ``world`` gives a bootstrapped server without a wire (worlds.py).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from clarifai_grpc.grpc.api import service_pb2_grpc
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.integration.own_flows import SHOWS, Flowing, Flows, Pictures, SeeingEye
from tests.integration.serving import App, Server, Site, connected, home, new_app, server_at, web_site
from tests.integration.test_ingest_worker import bench
from tests.integration.worlds import World, Worlds

from sightrank.store.embedded import EmbeddedServer
from sightrank.store.migrate import upgrade


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A server in which databases can be made."""
    outside = os.environ.get("SIGHTRANK_TEST_DATABASE_URL")
    if outside:
        yield outside
        return
    # Not pytest's tmp_path: as root, the database's own user must be able to walk there.
    directory = Path(tempfile.mkdtemp(prefix="sightrank-test-"))
    directory.chmod(0o755)
    server = EmbeddedServer(directory, memory_bytes=512 * 2**20)
    try:
        url = server.start()
        _hasten(url)
        yield url
        server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """The name of a migrated database to copy."""
    name = f"template_{uuid.uuid4().hex}"
    _create(server_url, name)
    asyncio.run(upgrade(make_conninfo(server_url, dbname=name)))
    yield name
    _drop(server_url, name)


@pytest.fixture
def database_url(server_url: str, template: str) -> Iterator[str]:
    """A fresh, migrated, empty database."""
    name = f"test_{uuid.uuid4().hex}"
    _create(server_url, name, template)
    yield make_conninfo(server_url, dbname=name)
    _drop(server_url, name)


def _hasten(url: str) -> None:
    """A server whose data may be lost when the machine goes down, and that copies databases by their files."""
    with psycopg.connect(url, autocommit=True) as connection:
        for name in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
        connection.execute("SELECT pg_reload_conf()")


def _create(server_url: str, name: str, template: str | None = None) -> None:
    copy = sql.SQL("TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template)) if template else sql.SQL("")
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), copy))


def _drop(server_url: str, name: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Worlds:
    return Worlds(database_url, tmp_path)


@pytest.fixture
def flowing(world: Worlds, tmp_path: Path) -> Flowing:
    """For tests of apps with workflows of their own (own_flows.py)."""

    def run(scenario: Callable[[Flows], Awaitable[None]], **eye: Any) -> None:
        async def opened(world: World) -> None:
            await scenario(Flows(await bench(world, tmp_path), SeeingEye(Pictures(SHOWS), **eye)))

        world.run(opened)

    return run


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One `sightrank serve` for all tests that only use it; each makes an app of its own."""
    with home() as folder, server_at(folder) as running:
        running.start()
        yield running


@pytest.fixture(scope="session")
def stub(server: Server) -> Iterator[service_pb2_grpc.V2Stub]:
    with connected(server) as open_stub:
        yield open_stub


@pytest.fixture
def app(server: Server, stub: service_pb2_grpc.V2Stub) -> App:
    """A new, empty application."""
    return new_app(server, stub)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    with web_site() as running:
        yield running
