"""The demo's own parts: photographs, the two forms of a search, and what it checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format
from PIL import Image
from tools.demo import DemoError, photos, runner
from tools.demo.client import Concept, Hit, Rank
from tools.demo.searches import DemoSearch, difference, faults, reason, seven_searches
from tools.demo.server import read_credentials

RANKS = {
    "concept": Rank(concept=Concept(id="people")),
    "absent concept": Rank(concept=Concept(id="dog", value=0.0)),
    "concept in Japanese": Rank(concept=Concept(name="犬", language="ja")),
    "image url": Rank(url="http://127.0.0.1/a.jpg"),
    "image bytes": Rank(image=b"\xff\xd8\x00image"),
    "input id": Rank(input_id="beach"),
}


def image_file(path: Path, color: str = "teal", *, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)
    return path


@pytest.fixture
def own_photos(tmp_path: Path) -> photos.PhotoSet:
    for name in ("été 1.jpg", "b/IMG_1.png", "c/IMG_1.png", "c/IMG_1.webp", "猫.png"):
        image_file(tmp_path / name)
    (tmp_path / "broken.jpg").write_text("no image")
    (tmp_path / "notes.txt").write_text("no image either")
    image_file(tmp_path / ".hidden" / "thumbnail.png")
    return photos.from_folder(tmp_path)


@pytest.mark.parametrize("rank", RANKS.values(), ids=RANKS)
def test_both_forms_of_a_rank_say_the_same(rank: Rank) -> None:
    assert json_format.ParseDict(rank.json(), resources_pb2.Rank()) == rank.message()


def test_ids_of_own_photos_are_plain_and_unique(own_photos: photos.PhotoSet) -> None:
    ids = [photo.id for photo in own_photos.photos]

    assert ids == ["IMG_1", "c-IMG_1", "IMG_1-2", "ete-1", "image"]


def test_files_that_are_no_images_are_left_out_and_counted(own_photos: photos.PhotoSet) -> None:
    assert "1 could not be read" in own_photos.description


def test_the_searches_of_own_photos_need_nothing_but_photos(own_photos: photos.PhotoSet) -> None:
    searches = seven_searches(own_photos, "http://127.0.0.1/a")

    assert len(searches) == 7
    assert len({search.file for search in searches}) == 7


def test_folders_of_the_same_name_are_kept_apart(tmp_path: Path) -> None:
    image_file(tmp_path / "a" / "pictures" / "1.png")
    image_file(tmp_path / "b" / "pictures" / "1.png")

    first = photos.from_folder(tmp_path / "a" / "pictures")
    second = photos.from_folder(tmp_path / "b" / "pictures")

    assert first.name != second.name


def test_a_folder_without_images_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="No image under"):
        photos.from_folder(tmp_path)


def test_a_missing_folder_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="IMAGES=folder"):
        photos.from_folder(tmp_path / "nowhere")


def test_missing_packaged_photos_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="make demo"):
        photos.from_packages(tmp_path)


def test_batches_hold_at_most_128_images(own_photos: photos.PhotoSet) -> None:
    many = [photos.Photo(id=str(n), title="", path=own_photos.photos[0].path) for n in range(300)]

    assert [len(batch) for batch in runner.batches(many)] == [128, 128, 44]


def test_batches_stay_below_a_size(own_photos: photos.PhotoSet, monkeypatch: pytest.MonkeyPatch) -> None:
    size = len(own_photos.photos[0].load())
    monkeypatch.setattr(runner, "BATCH_BYTES", 2 * size)
    many = [photos.Photo(id=str(n), title="", path=own_photos.photos[0].path) for n in range(5)]

    assert [len(batch) for batch in runner.batches(many)] == [2, 2, 1]


@pytest.mark.parametrize("line", ["CLARIFAI_{}={}", "export CLARIFAI_{}={}", "export CLARIFAI_{}='{}'"])
def test_credentials_are_read_as_the_shell_would(tmp_path: Path, line: str) -> None:
    values = {"PAT": "p" * 32, "API_KEY": "k" * 32, "USER_ID": "admin", "APP_ID": "main"}
    path = tmp_path / "credentials.env"
    path.write_text("# kept\n" + "\n".join(line.format(*pair) for pair in values.items()) + "\n")

    credentials = read_credentials(path)

    assert (credentials.pat, credentials.api_key) == ("p" * 32, "k" * 32)
    assert (credentials.user_id, credentials.app_id) == ("admin", "main")


def test_incomplete_credentials_are_explained(tmp_path: Path) -> None:
    path = tmp_path / "credentials.env"
    path.write_text("CLARIFAI_PAT=x\n")

    with pytest.raises(DemoError, match="CLARIFAI_API_KEY"):
        read_credentials(path)


def test_answers_that_agree_have_no_difference() -> None:
    assert difference([Hit("a", 0.9), Hit("b", 0.5)], [Hit("a", 0.9000001), Hit("b", 0.5)]) == ""


@pytest.mark.parametrize("other", [[], [Hit("b", 0.9)], [Hit("a", 0.8)]], ids=["count", "input", "score"])
def test_answers_that_differ_say_where(other: list[Hit]) -> None:
    assert difference([Hit("a", 0.9)], other)


def search_for(**given: Any) -> DemoSearch:
    return DemoSearch(file="x", title="t", words="w", note="n", ranks=(Rank(input_id="a"),), **given)


def test_a_right_answer_has_no_faults() -> None:
    hits = [Hit("a", 1.0), Hit("b", 0.4)]

    assert faults(search_for(), hits, hits, []) == []


def test_no_hits_falling_scores_labels_and_the_own_photo_are_checked(own_photos: photos.PhotoSet) -> None:
    photo = own_photos.photos[0]
    rising, falling = [Hit("a", 0.4), Hit("b", 0.9)], [Hit("a", 0.9), Hit("b", 0.4)]

    assert faults(search_for(), [], [], [])
    assert faults(search_for(), rising, rising, [])
    assert faults(search_for(labelled=frozenset("b"), label_first=True), falling, falling, [])
    assert faults(search_for(photo=photo), falling, falling, [])
    assert faults(search_for(same_as=(Rank(input_id="a"),)), falling, falling, rising)


def test_a_copy_of_the_own_photo_may_share_its_place(own_photos: photos.PhotoSet) -> None:
    photo = own_photos.photos[0]
    hits = [Hit("copy", 1.0), Hit(photo.id, 1.0)]

    assert faults(search_for(photo=photo), hits, hits, []) == []


def test_reasons_name_labels_parts_and_likeness(own_photos: photos.PhotoSet) -> None:
    photo = own_photos.photos[0]

    assert reason(search_for(labelled=frozenset("a")), Hit("a", 1.0), ()) == "labelled by you"
    assert reason(search_for(photo=photo), Hit(photo.id, 1.0), ()) == "the query itself"
    assert reason(search_for(photo=photo), Hit("b", 0.75), ()) == "cosine +0.50"
    assert (
        reason(search_for(parts=("cat", "no dog")), Hit("b", 0.6), ({"b": 0.4}, {"b": 0.9})) == "cat 0.40, no dog 0.90"
    )
