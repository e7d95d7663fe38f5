"""Contact sheets: what is drawn whatever the hits, in letters that some font here has."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightrank import lettering
from sightrank.contact_sheet import Sheet, Tile, draw, outlined, save


@pytest.mark.parametrize("text", ["plain", "été", "犬", "“quoted” – …", "Ωμέγα 🙂"])
def test_no_letter_is_drawn_that_the_font_lacks(text: str) -> None:
    font, shown = lettering.font_for(text, 20)

    assert lettering.covers(font, shown)
    assert shown


def test_without_other_fonts_text_becomes_what_pillow_can_show(monkeypatch: pytest.MonkeyPatch) -> None:
    builtin_only = lettering._loaders()[:1]
    monkeypatch.setattr(lettering, "_loaders", lambda: builtin_only)

    assert lettering.font_for("été – 1", 20)[1] == "ete - 1"
    assert not lettering.showable("犬")


def sheet(**changes: Any) -> Sheet:
    tile = Tile(picture=Image.new("RGB", (50, 90), "olive"), title="a very long title " * 9, score=0.5, why="predicted")
    values: dict[str, Any] = {
        "heading": "Search 1 of 7",
        "title": "By a concept",
        "words": "犬",
        "plain_words": "inu",
        "note": "note " * 60,
        "footer": "footer",
        "picture": None,
        "tiles": [tile] * 9,
    }
    return Sheet(**(values | changes))


@pytest.mark.parametrize(("name", "kind"), [("1.png", "PNG"), ("1.jpg", "JPEG"), ("1.JPEG", "JPEG")])
def test_a_sheet_is_a_file_of_three_rows_for_nine_hits(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "sheets" / name

    save(sheet(), path)

    with Image.open(io.BytesIO(path.read_bytes())) as image:
        assert image.format == kind
        assert image.size == draw(sheet(tiles=sheet().tiles[:1] * 12)).size
    assert [file.name for file in path.parent.iterdir()] == [name]


def test_a_region_is_outlined_on_a_copy_of_its_picture() -> None:
    picture = Image.new("RGB", (100, 50), "black")

    marked = outlined(picture, (0.2, 0.1, 0.8, 0.5))

    assert picture.getbbox() is None
    assert marked.getbbox() == (10, 10, 51, 41)


@pytest.mark.parametrize("score", [0.0, 0.001, 1.0])
def test_a_sheet_can_show_any_score_and_no_picture(score: float) -> None:
    tile = Tile(picture=None, title="", score=score, why="", marked=True)

    assert draw(sheet(tiles=[tile], picture=Image.new("RGB", (30, 300)))).width > 1000


def test_a_sheet_without_hits_is_still_a_sheet() -> None:
    assert draw(sheet(tiles=[])).height > 500
