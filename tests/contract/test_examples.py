"""The programs of examples/ against the server: each prints what the API answers, and fails when the API does."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Query, Rank
from clarifai_grpc.grpc.api.service_pb2 import Pagination
from tests.contract import programs
from tests.contract.clients import App, by_concept, by_image, by_input
from tests.contract.conftest import Library
from tests.contract.programs import Program, Row
from tests.contract.serving import COMMAND, HOST, Server

LANGUAGES: dict[str, Callable[[Path], Program]] = {
    "python": partial(programs.python, "rank.py"),
    "curl": programs.curl,
    "fetch": programs.fetch,
    "nodejs": programs.nodejs,
    "java": programs.java,
}
FIRST_PAGE = Pagination(page=1, per_page=10)


@pytest.fixture(params=LANGUAGES)
def program(request: pytest.FixtureRequest, cache_dir: Path) -> Program:
    return LANGUAGES[request.param](cache_dir)


@pytest.fixture(scope="module")
def chosen(library: Library) -> tuple[str, str]:
    """An input that came by URL, and that URL."""
    return next(iter(library.urls.items()))


@pytest.fixture
def environment(server: Server, library: Library, chosen: tuple[str, str], tmp_path: Path) -> dict[str, str]:
    name, url = chosen
    file = tmp_path / "photo.jpg"
    file.write_bytes(library.pictures[name].data)
    return server.client_environment(INPUT_ID=name, IMAGE_URL=url, IMAGE_FILE=str(file), OWN_CONCEPT="favourite")


def the_seven(library: Library, chosen: tuple[str, str]) -> dict[str, list[Rank]]:
    name, url = chosen
    return {
        "by a concept of clarifai/main": [by_concept(id="people", value=1)],
        "by a concept of your own": [by_concept(id="favourite", value=1)],
        "by both": [by_concept(id="cat", value=1), by_concept(id="dog", value=0)],
        "by a concept in another language": [by_concept(name="犬", language="ja", value=1)],
        "by an image's URL": [by_image(url=url)],
        "by an image's bytes": [by_image(base64=library.pictures[name].data)],
        "by an input's id": [by_input(name)],
    }


def expect_tables(tables: dict[str, list[Row]], expected: dict[str, list[Row]]) -> None:
    assert list(tables) == list(expected)
    for title, rows in expected.items():
        shown = [(row.input_id, row.annotation_id) for row in tables[title]]
        assert shown == [(row.input_id, row.annotation_id) for row in rows], title
        assert [row.score for row in tables[title]] == pytest.approx([row.score for row in rows], abs=2e-4), title


def answers(reader: App, searches: dict[str, list[Rank]], unit: str = "Annotations") -> dict[str, list[Row]]:
    return {
        title: [
            Row(hit.score, hit.input.id, hit.annotation.id)
            for hit in reader.search(Query(ranks=ranks), unit, FIRST_PAGE)  # type: ignore[arg-type]
        ]
        for title, ranks in searches.items()
    }


def test_all_languages_print_what_the_api_answers(
    program: Program, environment: dict[str, str], reader: App, library: Library, chosen: tuple[str, str]
) -> None:
    done = program.run(environment)
    assert done.returncode == 0, done.errors
    expect_tables(done.tables, answers(reader, the_seven(library, chosen)))


def test_without_arguments_the_newest_input_is_searched_by(
    program: Program, server: Server, reader: App, library: Library
) -> None:
    """It was uploaded, so the picture comes from the server's own host, which wants the key."""
    done = program.run(server.client_environment())
    assert done.returncode == 0, done.errors
    (newest,) = reader.call("ListInputs", per_page=1).inputs
    assert newest.id not in library.urls
    for title in ("by an image's URL", "by an image's bytes", "by an input's id"):
        first = done.tables[title][0]
        assert (first.input_id, first.score >= 0.99) == (newest.id, True), title
    assert done.tables["by a concept of your own"]


def test_a_failed_answer_ends_a_program_with_1(program: Program, environment: dict[str, str], library: Library) -> None:
    wrong = "0" * 32
    done = program.run(environment | {"CLARIFAI_PAT": wrong, "CLARIFAI_API_KEY": wrong})
    assert done.returncode == 1
    assert "11008 Invalid API key or Invalid API key/application pair" in done.errors
    assert not any(done.tables.values())


@pytest.mark.parametrize(
    ("language", "host"),
    [("python", HOST), ("python", "localhost"), ("nodejs", HOST), ("nodejs", "localhost"), ("java", "localhost")],
)
def test_over_tls(
    language: str,
    host: str,
    cache_dir: Path,
    environment: dict[str, str],
    server: Server,
    reader: App,
    library: Library,
    chosen: tuple[str, str],
) -> None:
    tls = {"CLARIFAI_ROOT_CERTIFICATES_PATH": str(server.ca), "CLARIFAI_GRPC_BASE": f"{host}:{server.tls_port}"}
    done = LANGUAGES[language](cache_dir).run(environment | tls)
    assert done.returncode == 0, done.errors
    expect_tables(done.tables, answers(reader, the_seven(library, chosen)))


def test_javas_own_channel_on_port_443(
    cache_dir: Path, environment: dict[str, str], server: Server, reader: App, library: Library, chosen: tuple[str, str]
) -> None:
    """getGrpcChannel() of the Java client: TLS on port 443 whatever the base says, any certificate accepted."""
    program = LANGUAGES["java"](cache_dir)
    with forwarded("127.0.0.77", 443, server.tls_port):
        done = program.run(environment | {"CLARIFAI_GRPC_BASE": "127.0.0.77:443"})
    assert done.returncode == 0, done.errors
    expect_tables(done.tables, answers(reader, the_seven(library, chosen)))


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_the_sdk_ranks_inputs(
    tls: bool,
    cache_dir: Path,
    environment: dict[str, str],
    server: Server,
    reader: App,
    library: Library,
    chosen: tuple[str, str],
) -> None:
    base = server.tls_base if tls else server.base
    more = {"CLARIFAI_API_BASE": base, "CLARIFAI_ROOT_CERTIFICATES_PATH": str(server.ca)}
    done = programs.python("sdk_search.py", cache_dir).run(environment | more)
    assert done.returncode == 0, done.errors
    searches = the_seven(library, chosen)
    del searches["by an input's id"]
    expect_tables(done.tables, answers(reader, searches, "Inputs"))


def test_the_sdk_fails_with_1(cache_dir: Path, environment: dict[str, str], library: Library) -> None:
    done = programs.python("sdk_search.py", cache_dir).run(environment | {"CLARIFAI_PAT": "0" * 32})
    assert done.returncode == 1
    assert "Invalid API key or Invalid API key/application pair" in done.errors


def test_the_page_imports_what_the_program_imports() -> None:
    """No browser runs here. The page holds no logic but its form; the module it shares with rank.mjs ran above."""
    page = (programs.EXAMPLES / "fetch" / "rank.html").read_text(encoding="utf-8")
    program_text = (programs.EXAMPLES / "fetch" / "rank.mjs").read_text(encoding="utf-8")
    assert 'import {rank} from "./searches.mjs";' in page
    assert 'import {Failure, rank} from "./searches.mjs";' in program_text
    for field in ("base", "pat", "userId", "appId", "photo"):
        assert f'id="{field}"' in page


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_sightrank_env_sets_what_the_programs_read(server: Server, library: Library) -> None:
    names = ("PAT", "API_KEY", "USER_ID", "APP_ID", "API_BASE", "GRPC_BASE")
    shown = " ".join(f'"$CLARIFAI_{name}"' for name in names)
    script = f'set -eu; eval "$("{COMMAND}" env)"; printf "%s\\n" {shown}'
    environment = {"PATH": os.environ["PATH"], "HOME": str(Path.home()), "SIGHTRANK_DATA_DIR": str(server.data_dir)}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    values = dict(zip(names, done.stdout.splitlines(), strict=True))
    assert [values[name] for name in names[:4]] == [server.pat, server.api_key, server.user_id, server.app_id]
    assert values["API_BASE"].startswith("http://")
    assert "://" not in values["GRPC_BASE"]


@contextmanager
def forwarded(host: str, port: int, to_port: int) -> Iterator[None]:
    """Connections to ``host:port`` go to ``to_port`` on the loopback while this lasts."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        pytest.skip(f"cannot listen on {host}:{port} on this machine ({sys.platform}): {error}")
    listener.listen()

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=serve, args=(near,), daemon=True).start()

    def serve(near: socket.socket) -> None:
        with near, socket.create_connection((HOST, to_port)) as far:
            back = threading.Thread(target=pump, args=(far, near), daemon=True)
            back.start()
            pump(near, far)
            back.join()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join(5)
