"""Texts, links and visibilities that people send with what they make. No I/O."""

from __future__ import annotations

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.apps import MAX_TEXT_BYTES, plain_text
from sightrank.errors import AppError, InvalidRequest


def bounded_text(text: str, where: str, refuse: type[AppError]) -> str:
    """The same. Raises ``refuse`` where it is too long, and InvalidRequest where it cannot be stored."""
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise refuse(f"{where} has {len(text.encode())} bytes; {MAX_TEXT_BYTES} is the limit.")
    return plain_text(text, where)


def image_link(image: resources_pb2.Image, where: str, refuse: type[AppError], *, of: str) -> str:
    """Where the image ``of`` something is, '' for none. Raises ``refuse`` for bytes and for no web link."""
    url = plain_text(image.url, f"{where}.image.url")
    if image.base64:
        raise refuse(f"{where}.image.base64: the image of a {of} is a link; send image.url.")
    if url and not url.lower().startswith(("http://", "https://")):
        raise refuse(f"{where}.image.url is {url[:200]!r}; it must start with http:// or https://.")
    return url


def visibility_of(message: resources_pb2.Visibility, where: str) -> resources_pb2.Visibility.Gettable.ValueType:
    """0 where none is given. Raises InvalidRequest for a number that means nothing."""
    if message.gettable not in resources_pb2.Visibility.Gettable.values():
        raise InvalidRequest(
            f"{where}.gettable is {message.gettable}; it can be 10 (private), 30 (org) or 50 (public)."
        )
    return message.gettable
