"""The command line: what other programs read of it, and how it refuses (design, contract of the command line)."""

from __future__ import annotations

import os
import shlex
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Query, Rank, Search
from tests.integration.serving import (
    API_KEY,
    HOST,
    PAT,
    USER,
    App,
    Server,
    connected,
    home,
    new_app,
    of_bytes,
    picture,
    run_command,
    server_at,
    wait_for,
)


def variables(text: str) -> dict[str, str]:
    lines = [line.removeprefix("export ").split("=", 1) for line in text.splitlines()]
    return {name: "".join(shlex.split(value)) for name, value in lines}


def free_serve(data_dir: Path) -> list[str | Path]:
    """The command that serves this folder on ports that are free."""
    return ["serve", "--data-dir", data_dir, "--grpc-port", "0", "--http-port", "0"]


def test_env_prints_what_clients_read(server: Server) -> None:
    done = run_command("env", "--data-dir", server.data_dir)

    assert done.returncode == 0, done.stderr
    assert all(line.startswith("export CLARIFAI_") for line in done.stdout.splitlines())
    assert variables(done.stdout) == {
        "CLARIFAI_PAT": PAT,
        "CLARIFAI_API_KEY": API_KEY,
        "CLARIFAI_USER_ID": USER,
        "CLARIFAI_APP_ID": "photos",
        "CLARIFAI_API_BASE": server.base,
        "CLARIFAI_GRPC_BASE": f"{HOST}:{server.grpc_port}",
    }
    assert (server.data_dir / "credentials.env").stat().st_mode & 0o777 == 0o600


def test_the_keys_are_printed_at_the_first_start_only_and_doctor_looks_in_between() -> None:
    with home() as folder, server_at(folder, SIGHTRANK_BOOTSTRAP_PAT="", SIGHTRANK_BOOTSTRAP_API_KEY="") as server:
        server.start()
        first = server.log
        server.stop()
        made = variables(run_command("env", "--data-dir", server.data_dir).stdout)
        doctor = run_command("doctor", "--data-dir", server.data_dir)
        left_running = (server.data_dir / "postgres" / "postmaster.pid").exists()
        server.start()
        second = server.log

        assert doctor.returncode == 0, doctor.stdout + doctor.stderr
        assert "migrations: all applied" in doctor.stdout
        assert not left_running
        for name in ("CLARIFAI_PAT", "CLARIFAI_API_KEY"):
            assert len(made[name]) == 32
            assert f"{name}={made[name]}" in first
            assert made[name] not in second
        for text in (first, second):
            ready = next(line for line in text.splitlines() if line.startswith("ready"))
            assert server.base in ready
            assert f"{HOST}:{server.grpc_port}" in ready
        assert server.rest("GET", "/v2/inputs", key=made["CLARIFAI_API_KEY"]).status_code == 200


@pytest.fixture(scope="module")
def well() -> Iterator[Server]:
    """Doctor looks at all apps of a server: tests that leave one in trouble must not share it."""
    with home() as folder, server_at(folder) as running:
        running.start()
        yield running


def test_doctor_is_content_with_a_running_server(well: Server) -> None:
    done = run_command("doctor", "--data-dir", well.data_dir, XDG_RUNTIME_DIR="")  # as for root in a container

    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert "BAD" not in done.stdout
    for what in ("model", "disk", "migrations: all applied", "pgvector", "indexes: all valid"):
        assert what in done.stdout
    assert well.rest("GET", "/healthz").status_code == 200


def test_doctor_tells_of_the_matrices_of_a_running_server(well: Server) -> None:
    def told(app: App) -> str | None:
        done = run_command("doctor", "--data-dir", well.data_dir)
        assert done.returncode == 0, done.stdout + done.stderr
        return next((line for line in done.stdout.splitlines() if app.id in line and "matrix of" in line), None)

    with connected(well) as stub:
        app = new_app(well, stub)
        app.indexed(of_bytes(picture(1), "a"), of_bytes(picture(2), "b"))
        like_a = Search(query=Query(ranks=[Rank(annotation=Annotation(input_id="a"))]))
        app.call("PostInputsSearches", searches=[like_a])
        line = wait_for("the server to write down what it has", lambda: told(app))

    assert "2 areas, ranked in memory (exact), 0.0 MB, up to date" in line


def test_doctor_reports_what_it_cannot_reach() -> None:
    with home() as folder:
        url = f"postgresql://nobody@{HOST}:1/none?connect_timeout=2"
        done = run_command("doctor", "--data-dir", folder / "data", SIGHTRANK_DATABASE_URL=url)

        assert done.returncode == 1
        assert "BAD  database" in done.stdout
        assert "Traceback" not in done.stderr


def test_doctor_reports_a_folder_for_images_that_cannot_be() -> None:
    with home() as folder:
        url = f"postgresql://nobody@{HOST}:1/none?connect_timeout=2"
        settings = {"SIGHTRANK_DATABASE_URL": url, "SIGHTRANK_BLOB_URL": "file:///dev/null/images"}
        done = run_command("doctor", "--data-dir", folder / "data", **settings)

        assert done.returncode == 1
        assert "BAD  disk: images cannot be stored in /dev/null/images" in done.stdout
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["env", "--data-dir"], ["certs"]])
def test_a_file_in_the_way_is_told_in_one_line(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "credentials.env").mkdir()
    (tmp_path / "file").touch()

    done = run_command(*command, tmp_path if command[0] == "env" else tmp_path / "file")

    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert str(tmp_path) in done.stderr


def test_certs_make_a_chain_that_clients_verify(tmp_path: Path) -> None:
    done = run_command("certs", tmp_path / "tls", "--host", "search.example", "--host", HOST)

    assert done.returncode == 0, done.stderr
    ca, certificate, key = (Path(line) for line in done.stdout.split())
    assert key.stat().st_mode & 0o077 == 0
    context = ssl.create_default_context(cafile=ca)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(certificate, key)
    for name in ("search.example", HOST):
        assert _shakes_hands(context, serving, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shakes_hands(context, serving, "other.example")
    verified = subprocess.run(["openssl", "verify", "-CAfile", ca, certificate], capture_output=True, text=True)
    assert verified.returncode == 0, verified.stderr


def test_models_concepts_shows_every_concept_with_its_quality_and_the_weak_ones_alone() -> None:
    everything = run_command("models", "concepts")
    weak = run_command("models", "concepts", "--weak")

    assert everything.returncode == weak.returncode == 0, everything.stderr + weak.stderr
    rows = {line.split("  ")[0]: line for line in everything.stdout.splitlines()}
    assert "good" in rows["dog"]
    assert "unmeasured" in rows["palm tree"]
    assert "323 concepts of general" in everything.stdout
    assert "\ndog " not in weak.stdout
    assert "\npalm tree " in weak.stdout
    assert len(weak.stdout.splitlines()) < len(everything.stdout.splitlines())


def _shakes_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        left = 0
        for end in (here, there):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                left += 1
        if not left:
            return True
    return False


@pytest.mark.parametrize(
    ("command", "settings", "mentions"),
    [
        (["serve"], {"SIGHTRANK_HTTP_PORT": "99999"}, "SIGHTRANK_HTTP_PORT"),
        (["serve"], {"SIGHTRANK_WORKERS": "many"}, "SIGHTRANK_WORKERS"),
        (["serve"], {"SIGHTRANK_LOG_LEVEL": "loud"}, "SIGHTRANK_LOG_LEVEL"),
        (["serve"], {"SIGHTRANK_FETCH_ALLOW": "10.0.0.0/99"}, "SIGHTRANK_FETCH_ALLOW"),
        (["serve"], {"SIGHTRANK_BLOB_URL": "s3://bucket/images"}, "SIGHTRANK_BLOB_URL is s3://bucket/images"),
        (["doctor"], {"SIGHTRANK_BLOB_URL": "file://host/images"}, "SIGHTRANK_BLOB_URL"),
        (["serve", "--host", "no.such.host.invalid", "--http-port", "0"], {}, "--host"),
        (["worker"], {"SIGHTRANK_FETCH_ALLOW": "user@host"}, "SIGHTRANK_FETCH_ALLOW"),
        (
            ["serve"],
            {"SIGHTRANK_DATABASE_URL": f"postgresql://x@{HOST}:1/x?connect_timeout=2"},
            "SIGHTRANK_DATABASE_URL",
        ),
        (["serve"], {"SIGHTRANK_DATABASE_URL": "no url at all"}, "SIGHTRANK_DATABASE_URL"),
        (
            ["worker"],
            {"SIGHTRANK_DATABASE_URL": f"postgresql://x@{HOST}:1/x?connect_timeout=2"},
            "SIGHTRANK_DATABASE_URL",
        ),
        (["worker"], {}, "SIGHTRANK_DATABASE_URL"),
        (["env"], {}, "sightrank serve"),
        (["db", "upgrade"], {"SIGHTRANK_DATABASE_URL": f"postgresql://x@{HOST}:1/x?connect_timeout=2"}, "DATABASE_URL"),
    ],
)
def test_a_wrong_setting_ends_with_2_and_one_line(command: list[str], settings: dict[str, str], mentions: str) -> None:
    with home() as folder:
        done = run_command(*command, "--data-dir", folder / "data", **settings)

        assert done.returncode == 2, done.stdout + done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert mentions in done.stderr
        assert not (folder / "data" / "postgres" / "postmaster.pid").exists()


@pytest.mark.parametrize(
    ("settings", "mentions"),
    [
        ({"SIGHTRANK_TLS_PORT": "0"}, "certificate"),
        ({"SIGHTRANK_BASE_WORKFLOW": "Nonsense"}, "Nonsense"),
        ({"SIGHTRANK_BOOTSTRAP_PAT": "short"}, "SIGHTRANK_BOOTSTRAP_PAT"),
        ({"SIGHTRANK_BASE_WORKFLOW": "Universal"}, "models add"),
        ({"SIGHTRANK_BLOB_URL": "/dev/null/images"}, "SIGHTRANK_BLOB_URL"),
    ],
)
def test_what_shows_only_at_the_start_ends_so_too(
    database_url: str, tmp_path: Path, settings: dict[str, str], mentions: str
) -> None:
    done = run_command(*free_serve(tmp_path), SIGHTRANK_DATABASE_URL=database_url, **settings)

    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert mentions in done.stderr


@pytest.mark.parametrize("external", [True, False])
def test_a_folder_that_cannot_be_used_is_refused_by_name(database_url: str, tmp_path: Path, external: bool) -> None:
    (tmp_path / "file").write_text("in the way")

    done = run_command(*free_serve(tmp_path / "file"), SIGHTRANK_DATABASE_URL=database_url if external else "")

    assert done.returncode == 2
    assert str(tmp_path / "file") in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name", ["addresses.json", "credentials.env"])
def test_a_file_that_cannot_be_written_is_refused_by_name(database_url: str, tmp_path: Path, name: str) -> None:
    (tmp_path / name / "in the way").mkdir(parents=True)

    done = run_command(*free_serve(tmp_path), SIGHTRANK_DATABASE_URL=database_url)

    assert done.returncode == 2
    assert str(tmp_path / name) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_server_on_the_same_folder_is_refused(server: Server) -> None:
    done = run_command("serve", "--data-dir", server.data_dir, "--grpc-port", "0", "--http-port", "0")

    assert done.returncode == 2
    assert "Another sightrank server uses" in done.stderr
    assert str(server.data_dir) in done.stderr
    assert server.rest("GET", "/healthz").status_code == 200


def test_a_taken_port_is_named(database_url: str, tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        command = [*free_serve(tmp_path)[:-1], str(port)]
        done = run_command(*command, SIGHTRANK_DATABASE_URL=database_url)

        assert done.returncode == 2, done.stderr
        assert str(port) in done.stderr
        assert "--http-port" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_port_0_takes_free_ports_and_hosted_urls_name_them(database_url: str) -> None:
    with home() as folder, server_at(folder, SIGHTRANK_DATABASE_URL=database_url) as server:
        server.http_port = server.grpc_port = 0
        server.start()
        address = variables(run_command("env", "--data-dir", server.data_dir).stdout)
        server.http_port = int(address["CLARIFAI_API_BASE"].rsplit(":", 1)[1])
        server.grpc_port = int(address["CLARIFAI_GRPC_BASE"].rsplit(":", 1)[1])

        with connected(server) as stub:
            app = new_app(server, stub)
            app.indexed(of_bytes(picture(1), "a"))
            url = app.call("GetInput", input_id="a").input.data.image.url
            assert url.startswith(server.base)
            assert server.rest("GET", url).content == picture(1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has a database user of its own")
def test_as_root_a_closed_folder_is_refused_and_stays_closed() -> None:
    with home() as folder:
        closed = folder / "closed"
        closed.mkdir(mode=0o700)

        done = run_command("serve", "--data-dir", closed / "data", "--grpc-port", "0", "--http-port", "0")

        assert done.returncode == 2, done.stderr
        assert str(closed) in done.stderr
        assert closed.stat().st_mode & 0o777 == 0o700


def test_a_server_that_is_told_to_stop_while_it_starts_stops_in_good_order() -> None:
    with home() as folder, server_at(folder) as server:
        server.launch()
        wait_for(
            "the database to be started", lambda: (server.data_dir / "postgres" / "postmaster.pid").exists(), seconds=60
        )
        server.stop()

        assert not (server.data_dir / "postgres" / "postmaster.pid").exists()
