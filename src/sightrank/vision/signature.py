"""What a file is, judged by its first bytes only: names and endings of files are often wrong."""

from __future__ import annotations

import re
from typing import Final

CONTENT_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "MP4": "video/mp4",
    "MOV": "video/quicktime",
    "3GP": "video/3gpp",
    "AVI": "video/x-msvideo",
    "WMV": "video/x-ms-wmv",
    "WEBM": "video/webm",
    "MKV": "video/x-matroska",
}

_IMAGES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
)
_OTHERS: Final = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "an icon (ICO)"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"ID3", "an MP3 sound"),
    (b"OggS", "an Ogg media file"),
    (b"fLaC", "a FLAC sound"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
)
_VIDEOS: Final = {
    "MP4": "an MP4 video",
    "MOV": "a QuickTime video",
    "3GP": "a 3GP video",
    "AVI": "an AVI video",
    "WMV": "a Windows Media video",
    "WEBM": "a WebM video",
    "MKV": "a Matroska video",
}
# Films older than the box that names their kind begin with one of these.
_QUICKTIME_BOXES: Final = frozenset({b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"})
_ASF: Final = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_AVIF_BRANDS: Final = frozenset({b"avif", b"avis"})
_HEIF_BRANDS: Final = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
# Possessive, so that a page full of comments is not tried in every possible way.
_MARKUP: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*+(?:<!--(?:(?!-->).)*+-->\s*+)*+<(!doctype\s+html|html|head|body|\?xml|svg)", re.I | re.S
)


def image_format(data: bytes) -> str | None:
    """JPEG, PNG, WEBP, TIFF, BMP or GIF; None for everything else."""
    for start, name in _IMAGES:
        if data.startswith(start):
            # Two letters are few: a bitmap also says how long its next header is (12 to 124 bytes).
            return name if name != "BMP" or data[15:18] == b"\0\0\0" else None
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def video_format(data: bytes) -> str | None:
    """MP4, MOV, 3GP, AVI, WMV, WEBM, MKV or GIF; None for everything else. The first 4 kB are enough."""
    if data[4:8] == b"ftyp":
        return _iso_format(data[8:12])
    if data[4:8] in _QUICKTIME_BOXES:
        return "MOV"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "AVI"
    if data.startswith(_ASF):
        return "WMV"
    if data.startswith(b"\x1aE\xdf\xa3"):
        return "WEBM" if b"webm" in data[:64] else "MKV"
    return "GIF" if image_format(data) == "GIF" else None


def _iso_format(brand: bytes) -> str | None:
    if brand in _AVIF_BRANDS | _HEIF_BRANDS:
        return None
    return "MOV" if brand == b"qt  " else "3GP" if brand.startswith(b"3g") else "MP4"


def content_type(data: bytes) -> str:
    """The media type of an image or video file, application/octet-stream for everything else."""
    return CONTENT_TYPES.get(image_format(data) or video_format(data) or "", "application/octet-stream")


def looks_like(data: bytes) -> str:
    """What bytes seem to be, to go into "the content is …"."""
    if not data:
        return "empty"
    image = image_format(data)
    if image is not None:
        return f"a {image} image"
    video = video_format(data)
    if video is not None:
        return _VIDEOS[video]
    for start, name in _OTHERS:
        if data.startswith(start):
            return name
    if data[4:8] == b"ftyp":
        return "an AVIF image" if data[8:12] in _AVIF_BRANDS else "a HEIC image"
    if data[:4] == b"RIFF":
        return "a WAVE sound" if data[8:12] == b"WAVE" else "a RIFF file of an unknown kind"
    return _markup(data[:2048]) or _text(data[:2048]) or "data of an unknown kind"


def _markup(start: bytes) -> str | None:
    found = _MARKUP.match(start)
    if found is None:
        return None
    if found[1].lower() in {b"svg", b"?xml"}:
        return "an SVG drawing" if b"<svg" in start.lower() else "an XML document"
    return "an HTML page"


def _text(start: bytes) -> str | None:
    try:
        # A character cut in two at the end of the sample is no sign against text.
        text = start.decode("utf-8", errors="strict" if len(start) < 2048 else "ignore")
    except UnicodeDecodeError:
        return None
    readable = sum(character.isprintable() or character.isspace() for character in text)
    if readable < len(text) or len(text) < len(start) // 2:
        return None
    return "JSON text" if text.lstrip()[:1] in {"{", "["} else "plain text"
