"""A contact sheet of a search: the query on the left, the ranked hits with scores and titles on the right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

from sightrank.lettering import font_for, showable

#: Endings of files, and how they are written.
KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
JPEG_QUALITY = 88
COLUMNS = 4
TILE_WIDTH, TILE_HEIGHT, CAPTION_HEIGHT = 288, 216, 64
GAP, MARGIN, PANEL_WIDTH = 24, 48, 400
RADIUS = 14
SCALE = 4

PAPER = (247, 246, 242)
PANEL = (24, 38, 52)
PANEL_TEXT = (244, 246, 248)
PANEL_SOFT = (154, 174, 192)
ACCENT = (255, 176, 66)
INK = (30, 36, 44)
SOFT = (118, 124, 132)
TRACK = (226, 224, 216)
EMPTY = (220, 220, 214)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One hit: its picture (None: not at hand), title, score and the reason for it."""

    picture: Image.Image | None
    title: str
    score: float
    why: str
    marked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What a contact sheet shows. ``plain_words`` is how the words sound, for scripts that no font here can show."""

    heading: str
    title: str
    words: str
    plain_words: str
    note: str
    footer: str
    picture: Image.Image | None
    tiles: Sequence[Tile]


def draw(sheet: Sheet) -> Image.Image:
    rows = max(2, -(-len(sheet.tiles) // COLUMNS))
    width = PANEL_WIDTH + 2 * MARGIN + COLUMNS * TILE_WIDTH + (COLUMNS - 1) * GAP
    height = 2 * MARGIN + rows * (TILE_HEIGHT + CAPTION_HEIGHT) + (rows - 1) * GAP
    image = Image.new("RGB", (width, height), PAPER)
    _panel(image, sheet)
    for number, tile in enumerate(sheet.tiles):
        row, column = divmod(number, COLUMNS)
        left = PANEL_WIDTH + MARGIN + column * (TILE_WIDTH + GAP)
        top = MARGIN + row * (TILE_HEIGHT + CAPTION_HEIGHT + GAP)
        _tile(image, (left, top), number + 1, tile)
    return image


def save(sheet: Sheet, path: Path) -> None:
    """Writes the sheet, whole or not at all, as what the file's ending in ``KINDS`` says. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    draw(sheet).save(unfinished, format=KINDS[path.suffix.lower()], optimize=True, quality=JPEG_QUALITY)
    unfinished.replace(path)


def outlined(picture: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    """A copy with a frame round a region: top, left, bottom, right as shares of the picture."""
    copy = picture.copy()
    top, left, bottom, right = box
    corners = (left * copy.width, top * copy.height, right * copy.width, bottom * copy.height)
    ImageDraw.Draw(copy).rectangle(corners, outline=ACCENT, width=max(2, copy.width // 100))
    return copy


def _panel(image: Image.Image, sheet: Sheet) -> None:
    drawing = ImageDraw.Draw(image)
    drawing.rectangle((0, 0, PANEL_WIDTH - 1, image.height), fill=PANEL)
    inner = PANEL_WIDTH - 2 * MARGIN
    top = MARGIN
    top = _text(drawing, (MARGIN, top), sheet.heading, size=17, fill=ACCENT, width=inner) + 12
    top = _text(drawing, (MARGIN, top), sheet.title, size=31, fill=PANEL_TEXT, width=inner, lines=3) + 30
    if sheet.picture is not None:
        picture = ImageOps.contain(sheet.picture, (inner, inner), Image.Resampling.LANCZOS)
        _paste_rounded(image, picture, (MARGIN, top))
        top += picture.height + 22
        top = _text(drawing, (MARGIN, top), sheet.words, size=21, fill=PANEL_TEXT, width=inner, lines=3) + 16
    else:
        top = _words(drawing, sheet, top, inner) + 26
    note = sheet.note
    if sheet.plain_words and not showable(sheet.words):
        note += " It was sent in its own letters, which no font of this machine can draw."
    _text(drawing, (MARGIN, top), note, size=19, fill=PANEL_SOFT, width=inner, lines=6)
    _text(drawing, (MARGIN, image.height - MARGIN - 18), sheet.footer, size=16, fill=PANEL_SOFT, width=inner)


def _words(drawing: ImageDraw.ImageDraw, sheet: Sheet, top: int, inner: int) -> int:
    """The words of a query, large; how they sound where their script cannot be shown."""
    words = sheet.words if showable(sheet.words) or not sheet.plain_words else sheet.plain_words
    size = 64
    while size > 34 and font_for(words, size)[0].getlength(words) > inner:
        size -= 2
    return _text(drawing, (MARGIN, top), words, size=size, fill=PANEL_TEXT, width=inner, lines=3)


def _tile(image: Image.Image, corner: tuple[int, int], rank: int, tile: Tile) -> None:
    drawing = ImageDraw.Draw(image)
    left, top = corner
    if tile.picture is None:
        picture = Image.new("RGB", (TILE_WIDTH, TILE_HEIGHT), EMPTY)
    else:
        picture = ImageOps.fit(tile.picture, (TILE_WIDTH, TILE_HEIGHT), Image.Resampling.LANCZOS, centering=(0.5, 0.4))
    _paste_rounded(image, picture, corner)
    _badge(
        image, (left + 10, top + 10), str(rank), ACCENT if tile.marked else PANEL, INK if tile.marked else PANEL_TEXT
    )
    line = top + TILE_HEIGHT + 9
    drawing.rounded_rectangle((left, line, left + TILE_WIDTH - 1, line + 4), 2, fill=TRACK)
    filled = round((TILE_WIDTH - 1) * min(1.0, max(0.0, tile.score)))
    if filled > 4:
        drawing.rounded_rectangle((left, line, left + filled, line + 4), 2, fill=ACCENT)
    score = f"{tile.score:.3f}"
    font, score = font_for(score, 20)
    score_width = font.getlength(score)
    drawing.text((left + TILE_WIDTH - score_width, line + 12), score, font=font, fill=INK)
    _text(drawing, (left, line + 12), tile.title, size=18, fill=INK, width=int(TILE_WIDTH - score_width - 14))
    _text(drawing, (left, line + 36), tile.why, size=15, fill=SOFT, width=TILE_WIDTH)


def _badge(image: Image.Image, corner: tuple[int, int], text: str, fill: tuple[int, ...], ink: tuple[int, ...]) -> None:
    side = 34
    badge = Image.new("RGB", (side, side), fill)
    mask = Image.new("L", (side * SCALE, side * SCALE), 0)
    ImageDraw.Draw(mask).ellipse((0, 0, side * SCALE - 1, side * SCALE - 1), fill=235)
    font, text = font_for(text, 18)
    ImageDraw.Draw(badge).text((side / 2, side / 2), text, font=font, fill=ink, anchor="mm")
    image.paste(badge, corner, mask.resize((side, side), Image.Resampling.LANCZOS))


def _paste_rounded(image: Image.Image, picture: Image.Image, corner: tuple[int, int]) -> None:
    width, height = picture.size
    mask = Image.new("L", (width * SCALE, height * SCALE), 0)
    box = (0, 0, width * SCALE - 1, height * SCALE - 1)
    ImageDraw.Draw(mask).rounded_rectangle(box, RADIUS * SCALE, fill=255)
    image.paste(picture, corner, mask.resize((width, height), Image.Resampling.LANCZOS))


def _text(
    drawing: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    *,
    size: int,
    fill: tuple[int, ...],
    width: int,
    lines: int = 1,
) -> int:
    """Writes a text in at most ``lines`` lines of a width; returns where the next text may begin."""
    font, text = font_for(text, size)
    left, top = corner
    for line in _broken(text, font.getlength, width, lines):
        drawing.text((left, top), line, font=font, fill=fill)
        top += round(size * 1.32)
    return top


def _broken(text: str, measure: Callable[[str], float], width: int, lines: int) -> list[str]:
    """The text in lines that fit; what does not fit ends in three points."""
    broken = [""]
    for word in text.split():
        longer = f"{broken[-1]} {word}".strip()
        if measure(longer) <= width or not broken[-1]:
            broken[-1] = longer
        else:
            broken.append(word)
    if len(broken) > lines:
        broken = [*broken[: lines - 1], " ".join(broken[lines - 1 :])]
    return [_cut(line, measure, width) for line in broken]


def _cut(line: str, measure: Callable[[str], float], width: int) -> str:
    if measure(line) <= width:
        return line
    while line and measure(line + "...") > width:
        line = line[:-1]
    return line.rstrip(" ,") + "..."
