"""The medium in a patch of an input: it may come back as the server shows it, but a patch never changes it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.errors import InvalidRequest
from sightrank.store.blobs import key_of

_MEDIA = ("image", "video", "audio", "text")


class StoredMedium(NamedTuple):
    """Columns of the statement ``media_of`` in inputs.sql."""

    media: str
    url: str
    blob: str
    text_raw: str


class SentMedium(NamedTuple):
    """What a patch says a medium is: its kind, and whatever it gives; ``blob`` is the key that its bytes would have."""

    media: str
    url: str
    blob: str
    text_raw: str


def sent_media(data: resources_pb2.Data, bucket: int) -> list[SentMedium]:
    """The media that the data of a patch give; what says nothing of its content is none."""
    given = [(name, getattr(data, name)) for name in _MEDIA if data.HasField(name)]  # type: ignore[arg-type]
    media = [_sent(name, body, bucket) for name, body in given]
    return [each for each in media if each.url or each.blob or each.text_raw]


def _sent(name: str, body: Any, bucket: int) -> SentMedium:
    data: bytes = b"" if name == "text" else body.base64
    return SentMedium(
        media=name,
        url=body.url,
        blob=key_of(bucket, data) if data else "",
        text_raw=body.raw if name == "text" else "",
    )


def check_media(
    sent: list[SentMedium], stored: StoredMedium, caption: str, is_hosted: Callable[[str], bool], where: str
) -> None:
    """Raises InvalidRequest where the input shows something else. ``is_hosted`` knows the input's own hosted URLs."""
    for medium in sent:
        if medium.media == "text" and stored.media != "text":
            same = medium.text_raw in ("", caption) and not medium.url
        else:
            same = (
                medium.media == stored.media
                and (medium.url in ("", stored.url) or is_hosted(medium.url))
                and medium.blob in ("", stored.blob)
                and medium.text_raw in ("", stored.text_raw)
            )
        if not same:
            raise InvalidRequest(
                f"{where}.{medium.media} is not what the input has, and a patch cannot change that: leave it out, or"
                " delete the input and post it anew."
            )
