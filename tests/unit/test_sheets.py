"""The labelled libraries of `make sheets`, and how it counts right hits."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from tools import labelled, sheets
from tools.labelled import Library, LibraryError, Shown, libraries
from tools.sheets import Judged, cell, section, share

from sightrank.api_client import Hit

LABELS = {
    "photos": ["person 0.5 0.5 0.1 0.1;dog 0.5 0.5 0.8 0.8", ""],
    "eval-places": ["abbey"],
    "eval-objects64": ["n02085620|Chihuahua", "n01443537|goldfish, Carassius auratus"],
    "eval-scenes64": ["sea"],
    "eval-clothing": ["dress"],
    "eval-grocery": ["Apple|Golden-Delicious"],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Zips of labels in the form of the real ones; nothing here opens a photo."""
    for name, labels in LABELS.items():
        rows = ["file\tlabels"]
        for number, label in enumerate(labels):
            if name == "photos":
                boxes = [part.split() for part in label.split(";") if part]
                label = json.dumps([[kind, *map(float, numbers)] for kind, *numbers in boxes])
                label = '"' + label.replace('"', '""') + '"'
            rows.append(f"{number:06}.jpg\t{label}")
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr("labels.tsv", "\n".join(rows) + "\n")
    return tmp_path


def hit(score: float = 0.5) -> Hit:
    return Hit(score=score, input_id="a", annotation_id="b", concepts=())


def judged(*said: bool | None) -> Judged:
    """Hits for dog whose photos show it, do not, or leave it open."""
    truths = {
        True: Shown(label="poodle", there=frozenset({"dog"}), absent=frozenset()),
        False: Shown(label="sea", there=frozenset(), absent=frozenset({"dog"})),
        None: Shown(label="park", there=frozenset(), absent=frozenset()),
    }
    return Judged(word="dog", positives=9, hits=tuple((hit(), truths[one]) for one in said))


def test_boxes_say_what_is_there_and_of_their_classes_what_is_not(data: Path) -> None:
    full, _ = libraries(data)
    both, none = full.photos

    assert [photo.id for photo in full.photos] == ["photo-000000", "photo-000001"]
    assert full.shown[both.id].label == "dog, person"  # the largest first
    assert [full.shown[both.id].shows(word) for word in ("dog", "animal", "people", "cat")] == [True, True, True, False]
    assert full.shown[both.id].shows("beach") is None
    assert full.shown[none.id].shows("dog") is False
    assert full.positives("dog") == 1


def test_labels_of_the_evaluation_sets_leave_open_what_they_may_show(data: Path) -> None:
    _, parts = libraries(data)
    shown = parts.shown

    assert shown["objects64-000000"].label == "Chihuahua"
    assert shown["objects64-000000"].shows("animal") is True
    assert shown["objects64-000001"].shows("dog") is False
    assert shown["objects64-000001"].shows("water") is None
    assert shown["grocery-000000"].shows("fruit") is True
    assert parts.positives("people") == 0
    assert len(parts.photos) == 6


def test_data_that_is_not_there_is_told(tmp_path: Path, data: Path) -> None:
    with pytest.raises(LibraryError, match="Name another DATA"):
        libraries(tmp_path / "nowhere")
    (data / "eval-places.zip").write_text("no zip")
    with pytest.raises(LibraryError, match="not a zip"):
        libraries(data)


def test_free_photographs_are_looked_for_before_anything_starts(tmp_path: Path) -> None:
    folder = tmp_path / "skimage" / "data"
    folder.mkdir(parents=True)
    for file, _ in labelled.FREE:
        (folder / file).touch()

    found = labelled.free_photographs(tmp_path)

    assert len(found.photos) == len(found.shown) == 10
    (folder / "camera.png").unlink()
    with pytest.raises(LibraryError, match=r"camera\.png is not there"):
        labelled.free_photographs(tmp_path)


def test_hits_that_the_labels_are_silent_about_are_neither_right_nor_wrong() -> None:
    some = judged(True, None, False, True)

    assert some.right(10) == (2, 3)
    assert share(some, 10) == "2 right, 1 unknown"
    assert share(judged(True, False), 10) == "1 right"
    assert share(judged(None, None), 10) == "unknown"
    assert [cell(some, rank) for rank in range(5)] == [
        "**0.50 poodle**",
        "0.50 park (?)",
        "0.50 sea",
        "**0.50 poodle**",
        "",
    ]


def test_a_section_lists_only_what_enough_labels_tell() -> None:
    few = Judged(word="cat", positives=4, hits=())
    library = Library(id="x", title="Two photos", words=("dog", "cat"), photos=(), shown={})

    text = section(library, [judged(True), few])

    assert "| dog | 9 | 1 right | 1 right |" in text
    assert "| cat | 4 | unknown | unknown |" in text
    assert "| rank | dog |" in text
    assert len(text.splitlines()) == 9 + sheets.LISTED


def test_the_tables_go_between_the_marks_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- searches -->\nold\n<!-- /searches -->\nafter\n")

    sheets.write(page, r"new \1")

    assert page.read_text() == "before\n<!-- searches -->\nnew \\1\n<!-- /searches -->\nafter\n"


def test_the_sets_are_those_that_training_never_reads() -> None:
    from_training = (labelled.LABEL_MAP.parent / "data.py").read_text()

    assert f"EVAL_SOURCES = {labelled.EVALUATION_SOURCES}".replace("'", '"') in from_training
