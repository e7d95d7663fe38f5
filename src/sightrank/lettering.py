"""Text on contact sheets, without a single empty box.

Pillow's own font has the Latin alphabet and little more. A text it cannot show is drawn in the first font of this
machine that can; where there is none, accents are dropped and what is left over is replaced.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

#: Common fonts with more letters, by the file names under which systems keep them.
OTHERS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKjp-Regular.otf",
    "NotoSansJP-Regular.otf",
    "SourceHanSans-Regular.ttc",
    "ipag.ttf",
    "ipagp.ttf",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "Hiragino Sans GB.ttc",
    "msgothic.ttc",
    "YuGothM.ttc",
)
_NOWHERE = "\U0010fffe"


def font_for(text: str, size: int) -> tuple[Font, str]:
    """A font and what to draw with it: the text itself, or the nearest to it that can be shown."""
    for load in _loaders():
        font = load(size)
        if covers(font, text):
            return font, text
    font = _builtin(size)
    return font, _nearest(text, font)


def showable(text: str) -> bool:
    """Whether some font here has every letter of the text."""
    return any(covers(load(24), text) for load in _loaders())


def covers(font: Font, text: str) -> bool:
    return all(character.isspace() or _has(font, character) for character in text)


@functools.lru_cache(maxsize=4096)
def _has(font: Font, character: str) -> bool:
    """Whether a font has a letter: it does not draw it like a code point that no font has."""
    return bytes(font.getmask(character)) != bytes(font.getmask(_NOWHERE))


@functools.lru_cache(maxsize=1)
def _loaders() -> tuple[Callable[[int], Font], ...]:
    loaders: list[Callable[[int], Font]] = [_builtin]
    for name in OTHERS:
        try:
            ImageFont.truetype(name, 24)
        except OSError:
            continue
        loaders.append(functools.partial(_named, name))
    return tuple(loaders)


@functools.lru_cache(maxsize=64)
def _builtin(size: int) -> Font:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=64)
def _named(name: str, size: int) -> Font:
    return ImageFont.truetype(name, size)


def _nearest(text: str, font: Font) -> str:
    plain = {"–": "-", "—": "-", "’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "·": "-", "×": "x"}
    letters = []
    for character in text:
        if character.isspace() or _has(font, character):
            letters.append(character)
        else:
            base = plain.get(character) or unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
            letters.append(base or "?")
    return "".join(letters)
