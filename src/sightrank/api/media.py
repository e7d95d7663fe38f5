"""Hosted images and videos: the originals of inputs and their thumbnails, for whoever may read the input."""

from __future__ import annotations

import asyncio
import io
import os
from dataclasses import dataclass
from typing import BinaryIO

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api.call import Authenticate
from sightrank.errors import CredentialMissing, DoesNotExist
from sightrank.ingest.media import HostedImage
from sightrank.store import queries
from sightrank.store.blobs import BlobMissingError, BlobStore
from sightrank.store.database import Database
from sightrank.vision import signature
from sightrank.vision.thumbnail import ORIGINAL, SIZES, VIDEO_SIZES, MediaSizes

_SQL = queries.load("inputs")
_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedFile:
    """A file to send; whoever gets it closes ``content``. ``etag`` is its version (RFC 9110, 8.8.3), '' without one."""

    content: BinaryIO
    size: int
    content_type: str
    etag: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMedia:
    """A picture or a video that is there and may be read: the key of its blob, and the size asked for."""

    blob: str
    size: str

    @property
    def etag(self) -> str:
        """Blobs are named by what is in them. Another release may make other bytes of a thumbnail: hence weak."""
        digest = self.blob.rpartition("/")[2]
        return f'"{digest}"' if self.size == ORIGINAL else f'W/"{digest}.{self.size}"'


class HostedMedia:
    """Serves what ``hosted`` and the ``url`` of uploaded images and videos point to."""

    def __init__(self, database: Database, authenticate: Authenticate, blobs: BlobStore, sizes: MediaSizes) -> None:
        self._database = database
        self._authenticate = authenticate
        self._blobs = blobs
        self._sizes = sizes

    async def find(self, credential: str | None, image: HostedImage, request_id: str) -> FoundMedia:
        """What a URL names, with no look at the file.

        Without a credential it does not exist; with a wrong one KeyInvalid (api-spec 3.1).
        """
        ids = resources_pb2.UserAppIDSet(user_id=image.user_id, app_id=image.app_id)
        request = service_pb2.GetInputRequest(user_app_id=ids, input_id=image.input_id)
        try:
            call = await self._authenticate("GetInput", credential, request, request_id)
        except CredentialMissing as error:
            raise DoesNotExist(
                "There is no such image, or it needs the header `Authorization: Key <your key>`."
            ) from error
        bucket = call.require_app().bucket
        row = await self._database.row(_SQL["media"], {"bucket": bucket, "id": image.input_id})
        if row is None or not row[1]:
            raise DoesNotExist(f"Input {image.input_id!r} has no hosted file.")
        media, key = row
        sizes = VIDEO_SIZES if media == "video" else SIZES
        if image.size not in sizes:
            raise DoesNotExist(
                f"There is no size {image.size[:40]!r} of this {media}; the sizes are {', '.join(sizes)}."
            )
        return FoundMedia(blob=key, size=image.size)

    async def open(self, found: FoundMedia) -> HostedFile:
        """The file. Raises DoesNotExist when it has gone meanwhile, and what ``MediaSizes.media`` raises."""
        if found.size == ORIGINAL:
            return await self._original(found)
        made = await self._sizes.media(found.blob, found.size)
        return HostedFile(content=io.BytesIO(made), size=len(made), content_type="image/jpeg", etag=found.etag)

    async def _original(self, found: FoundMedia) -> HostedFile:
        try:
            file = await self._blobs.open(found.blob)
        except BlobMissingError:
            raise DoesNotExist("The file is no longer there.") from None
        return await asyncio.to_thread(_described, file, found.etag)


def _described(file: BinaryIO, etag: str) -> HostedFile:
    """The file with its size and what its first bytes say it is."""
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    return HostedFile(content=file, size=size, content_type=signature.content_type(head), etag=etag)
