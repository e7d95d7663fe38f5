"""Where the bytes of an image or a video come from: the blob store, an input's hosted URL, or the network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import InputFailed, InputOverLimit
from sightrank.ingest.fetch import Fetcher
from sightrank.search.query import ImageTerm
from sightrank.store import queries
from sightrank.store.blobs import BlobMissingError, BlobStore
from sightrank.store.database import Database
from sightrank.vision.eye import Eye, ImageLimits, Queries
from sightrank.vision.threads import Lane
from sightrank.vision.thumbnail import SIZES, THUMBNAIL, MediaSizes

_SQL = queries.load("ingest")
_QUERIES_BY_URL = 64
#: Whole videos in memory, for people who wait and for ingest each.
_VIDEOS_AT_ONCE = 2
MAX_VIDEO_BYTES = 300_000_000
_VIDEO_DOWNLOAD_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostedImage:
    """One picture this server hosts, at one size."""

    size: str
    user_id: str
    app_id: str
    input_id: str


@lru_cache(maxsize=4096)
def _quoted(part: str) -> str:
    return quote(part, safe="")


class HostedUrls:
    """URLs of hosted pictures, ``<public url>/media/<size>/<user>/<app>/<input>``, of exported models,
    ``<public url>/exports/<user>/<app>/<model>/<version>/model.tar``, and of exported datasets,
    ``<public url>/exports/datasets/<bucket>/<export>/<expiry>/<signature>/<name>``."""

    def __init__(self, public_url: str) -> None:
        self._base = public_url.rstrip("/")

    def prefix(self) -> str:
        return f"{self._base}/media"

    def suffix(self, user_id: str, app_id: str, input_id: str) -> str:
        return f"{_quoted(user_id)}/{_quoted(app_id)}/{_quoted(input_id)}"

    def url(self, image: HostedImage) -> str:
        return f"{self.prefix()}/{image.size}/{self.suffix(image.user_id, image.app_id, image.input_id)}"

    def export(self, user_id: str, app_id: str, model_id: str, version_id: str) -> str:
        return "/".join([f"{self._base}/exports", *map(_quoted, (user_id, app_id, model_id, version_id)), "model.tar"])

    def dataset_export(self, bucket: int, export_id: str, expires: int, signature: str, name: str) -> str:
        """A URL that needs no key, but is good until ``expires`` only, in seconds since 1970."""
        return f"{self._base}/exports/datasets/{bucket}/{export_id}/{expires}/{signature}/{_quoted(name)}"

    def parse(self, url: str) -> HostedImage | None:
        """What a URL names if it is one of ours, else None."""
        if not url.startswith(f"{self.prefix()}/"):
            return None
        parts = [unquote(part) for part in urlsplit(url[len(self.prefix()) + 1 :]).path.split("/")]
        if len(parts) != 4 or parts[0] not in (*SIZES, THUMBNAIL):
            return None
        size, user_id, app_id, input_id = parts
        return HostedImage(size=size, user_id=user_id, app_id=app_id, input_id=input_id)


class ImageSource:
    """Reads images and videos, for ingest and for queries."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        sizes: MediaSizes,
        fetcher: Fetcher,
        urls: HostedUrls,
        limits: ImageLimits,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._sizes = sizes
        self._fetcher = fetcher
        self._urls = urls
        self._limits = limits
        self._queries = Queries()
        # Whole files, up to 20 MB each, wait for a decoder: so many queries by URL at a time, and no more.
        self._queried = asyncio.Semaphore(_QUERIES_BY_URL)
        self._videos = {lane: asyncio.Semaphore(_VIDEOS_AT_ONCE) for lane in Lane}

    async def load(self, bucket: int, *, url: str, blob: str) -> bytes:
        """The bytes of an input.

        Raises what ``Fetcher.fetch`` raises, InputFailed when a hosted URL names no image of this app, and for the
        thumbnail of a video what ``MediaSizes.media`` raises.
        """
        return await self._blobs.get(blob) if blob else await self._read(bucket, url)

    @asynccontextmanager
    async def video(
        self, bucket: int, lane: Lane, *, url: str = "", blob: str = "", data: bytes = b""
    ) -> AsyncIterator[bytes]:
        """The bytes of a video, for use inside the block only: those given, or a blob, or at most ``MAX_VIDEO_BYTES``
        from a URL.

        Waits while the lane has as many videos in memory as it may. Raises what ``load`` raises.
        """
        async with self._videos[lane]:
            if not data:
                data = await (self._blobs.get(blob) if blob else self._read_video(bucket, url))
            yield data

    async def copied(self, bucket: int, url: str, *, to: int) -> str:
        """The blob, in the app ``to``, of a copy of what the app of ``bucket`` hosts at a URL.

        Raises InputFailed when there is no such image, and for the thumbnail of a video what ``MediaSizes.media``
        raises.
        """
        hosted = self._urls.parse(url)
        assert hosted is not None, "only hosted pictures are copied"
        blob, media = await self._hosted(bucket, url, hosted)
        if hosted.size == THUMBNAIL and media == "video":
            return await self._blobs.put(to, await self._sizes.media(blob, THUMBNAIL))
        try:
            return await self._blobs.copy(blob, to)
        except BlobMissingError:
            raise _not_found(url) from None

    async def keep(self, bucket: int, data: bytes) -> str:
        """Keeps a fetched image or video and returns its blob: crops, thumbnails and a later re-index outlive its URL.

        Call it for what has proved to be one.
        """
        return await self._blobs.put(bucket, data)

    @asynccontextmanager
    async def picture(self, bucket: int, term: ImageTerm) -> AsyncIterator[bytes]:
        """The bytes of a picture to predict from, for use inside the block. Raises ServerBusy when too many wait
        already, and what ``load`` raises.
        """
        async with self._queries.place():
            data = term.data
            if not data:
                async with self._queried:
                    data = await self._read(bucket, term.url)
            yield data

    async def look(self, bucket: int, eye: Eye, term: ImageTerm) -> NDArray[np.float32]:
        """The unit vector of a query image. Raises ServerBusy when too many wait already."""
        async with self._queries.place():
            if term.data:
                return await eye.look(term.data)
            async with self._queried:
                return await eye.look(await self._read(bucket, term.url))

    async def _read_video(self, bucket: int, url: str) -> bytes:
        return await self._read(bucket, url, max_bytes=MAX_VIDEO_BYTES, total_s=_VIDEO_DOWNLOAD_S)

    async def _read(
        self, bucket: int, url: str, *, max_bytes: int | None = None, total_s: float | None = None
    ) -> bytes:
        max_bytes = self._limits.max_bytes if max_bytes is None else max_bytes
        hosted = self._urls.parse(url)
        if hosted is None:
            return (await self._fetcher.fetch(url, max_bytes=max_bytes, total_s=total_s)).data
        blob, media = await self._hosted(bucket, url, hosted)
        if hosted.size == THUMBNAIL and media == "video":
            return await self._sizes.media(blob, THUMBNAIL)
        size = await self._blobs.size(blob)
        if size > max_bytes:
            raise InputOverLimit(f"{url} has {size} bytes; at most {max_bytes} are accepted here.")
        return await self._blobs.get(blob)

    async def _hosted(self, bucket: int, url: str, hosted: HostedImage) -> tuple[str, str]:
        """The blob and the medium of what the app of ``bucket`` hosts at a URL."""
        app = await self._database.row(_SQL["app_of_bucket"], {"bucket": bucket})
        if app != (hosted.user_id, hosted.app_id):
            raise InputFailed(f"{url} is of another app, where your key can read nothing at this URL.")
        row = await self._database.row(_SQL["blob_of_input"], {"bucket": bucket, "id": hosted.input_id})
        if row is None or not row[0]:
            raise _not_found(url)
        blob, media = row
        return blob, media


def _not_found(url: str) -> InputFailed:
    return InputFailed(f"404 Client Error: Not Found for url: {url} (its app has no such image)")
