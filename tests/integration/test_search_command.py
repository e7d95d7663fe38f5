"""``sightrank search``: what it finds, shows and draws, and how it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, BoundingBox, Concept, Data, Image, RegionInfo
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from PIL import Image as Pictures
from tests.integration.serving import API_KEY, PAT, USER, App, Server, Site, home, new_app, of_bytes, picture
from tests.integration.serving import run_command as run


@pytest.fixture(scope="module")
def filled(server: Server, stub: V2Stub) -> App:
    """An app of three pictures: a is labelled "garden" and "[red] door", b has a region labelled "gate"."""
    app = new_app(server, stub)
    garden = Data(
        image=Image(base64=picture(1)),
        concepts=[Concept(id="garden", name="garden", value=1), Concept(id="door", name="[red] door", value=1)],
    )
    app.indexed(resources_pb2.Input(id="a", data=garden), of_bytes(picture(2), "b"), of_bytes(picture(3), "c"))
    box = RegionInfo(bounding_box=BoundingBox(top_row=0.1, left_col=0.2, bottom_row=0.9, right_col=0.6))
    region = resources_pb2.Region(region_info=box, data=Data(concepts=[Concept(id="gate", value=1)]))
    app.annotate(Annotation(input_id="b", data=Data(regions=[region])))
    return app


def rows(text: str) -> list[list[str]]:
    """The cells of the table's rows, split where there are two spaces."""
    lines = text.splitlines()
    (head,) = [place for place, line in enumerate(lines) if line.startswith("rank")]
    return [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[head + 1 :] if line[:4].strip()
    ]


def test_a_text_finds_what_it_names_and_the_note_is_shown(server: Server, filled: App) -> None:
    done = run("search", "my garden", "--app", filled.id, "--data-dir", server.data_dir)

    assert done.returncode == 0, done.stderr
    assert 'searched by concepts instead: "garden" as garden' in done.stdout.replace("\n", " ")
    first, *others = rows(done.stdout)
    assert first[:4] == ["1", "1.000", "a", "whole image"]
    assert "garden 1.00" in first[4]
    assert "[red] door 1.00" in first[4]
    assert {row[2] for row in others} == {"b", "c"}


def test_concepts_and_an_image_are_ranked_together(server: Server, filled: App, tmp_path: Path) -> None:
    example = tmp_path / "b.png"
    example.write_bytes(picture(2))

    def best(*options: str | Path) -> list[str]:
        done = run("search", *options, "--count", "1", "--app", filled.id, "--data-dir", server.data_dir)
        assert done.returncode == 0, done.stderr
        (row,) = rows(done.stdout)
        return row

    assert best("--concept", "garden")[1:3] == ["1.000", "a"]
    assert best("--image", example)[2] == "b"
    assert best("--image", example, "--concept", "garden", "--without", "gate")[2] == "a"
    assert best("--concept", "gate")[2:5] == ["b", "region 0.10 0.20 0.90 0.60", "gate 1.00"]


def test_an_image_is_fetched_by_the_server(server: Server, filled: App, site: Site) -> None:
    url = site.show(picture(3), kind="image/jpeg")

    done = run("search", "--image", url, "--app", filled.id, "--data-dir", server.data_dir)

    assert done.returncode == 0, done.stderr
    assert rows(done.stdout)[0][1:3] == ["1.000", "c"]


@pytest.mark.parametrize(("name", "kind"), [("gates.jpg", "JPEG"), ("gates.png", "PNG")])
def test_a_contact_sheet_shows_the_hits(server: Server, filled: App, tmp_path: Path, name: str, kind: str) -> None:
    sheet = tmp_path / "new folder" / name

    done = run("search", "gate", "--sheet", sheet, "--app", filled.id, "--data-dir", server.data_dir)

    assert done.returncode == 0, done.stderr
    assert f"Contact sheet: {sheet}" in done.stdout
    with Pictures.open(sheet) as drawn:
        assert drawn.format == kind
        # The first tile holds a picture, not the grey of one that is missing.
        tile = drawn.convert("RGB").crop((460, 60, 720, 250))
        assert len(set(tile.resize((20, 20)).get_flattened_data())) > 10


def test_the_shell_of_sightrank_env_is_enough(server: Server, filled: App) -> None:
    shell = {"CLARIFAI_API_BASE": server.base, "CLARIFAI_PAT": PAT, "CLARIFAI_USER_ID": USER}
    by_token = run("search", "garden", CLARIFAI_APP_ID=filled.id, **shell)
    by_option = run("search", "garden", "--app", filled.id, CLARIFAI_APP_ID="other", **shell)
    by_app_key = run("search", "--concept", "[red] door", CLARIFAI_API_BASE=server.base, CLARIFAI_API_KEY=API_KEY)

    assert rows(by_token.stdout)[0][2] == rows(by_option.stdout)[0][2] == "a"
    assert by_app_key.returncode == 2
    assert "[red] door" in by_app_key.stderr  # the key's own app has no such concept


def test_an_empty_app_has_no_hits_and_no_sheet(server: Server, app: App, tmp_path: Path) -> None:
    sheet = tmp_path / "none.png"

    done = run("search", "dog", "--sheet", sheet, "--app", app.id, "--data-dir", server.data_dir)

    assert done.returncode == 0, done.stderr
    assert "No hits for dog: the app has no indexed image." in done.stdout
    assert not sheet.exists()


@pytest.mark.parametrize(
    ("options", "mentions"),
    [
        (["catxyz"], "'catxyz' names no concept"),
        (["--concept", "catxyz"], "catxyz"),
        ([], "Say what to look for"),
        (["  "], "Say what to look for"),
        (["dog", "--sheet", "hits.gif"], "--sheet hits.gif must end in one of .png, .jpg, .jpeg."),
        (["dog", "--sheet", "/dev/null/hits.png"], "--sheet /dev/null/hits.png cannot be written"),
        (["--image", "/no/such/file.jpg"], "--image /no/such/file.jpg cannot be read"),
        (["--image", __file__], "The query image could not be used"),
        (["--image", "http://127.0.0.1:1/a.jpg"], "http://127.0.0.1:1/a.jpg"),
        (["dog", "--app", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_answered_is_told_in_one_line(
    server: Server, filled: App, options: list[str], mentions: str
) -> None:
    app = [] if "--app" in options else ["--app", filled.id]

    done = run("search", *options, *app, "--data-dir", server.data_dir)

    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert mentions in done.stderr
    assert done.stderr.startswith("sightrank: ")


def test_a_server_that_is_not_there_is_told() -> None:
    with home() as folder:
        never_started = run("search", "dog", "--data-dir", folder / "data")
        gone = run("search", "dog", CLARIFAI_API_BASE="http://127.0.0.1:1", CLARIFAI_API_KEY="k" * 32)
        no_key = run("search", "dog", "--app", "x", CLARIFAI_API_BASE="http://127.0.0.1:1", CLARIFAI_API_KEY="k" * 32)

    for done, mentions in (
        (never_started, "Start `sightrank serve` with this --data-dir first."),
        (gone, "No answer from http://127.0.0.1:1"),
        (no_key, "CLARIFAI_PAT and CLARIFAI_API_KEY give no key for app x"),
    ):
        assert done.returncode == 2, done.stdout + done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert mentions in done.stderr


def test_what_answers_otherwise_is_no_server_of_this_api(site: Site) -> None:
    done = run("search", "dog", CLARIFAI_API_BASE=site.base, CLARIFAI_API_KEY="k" * 32)

    assert done.returncode == 2
    assert "does not answer as this API does" in done.stderr
