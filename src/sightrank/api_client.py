"""A small client of a running server's public API, over REST: what the command line searches with.

It sees what every other program sees, and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from PIL import Image, UnidentifiedImageError

TIMEOUT_S = 60.0
_SUCCESS = 10000
_CONNECTIONS = 8
#: The hosted size that fits a tile of a contact sheet; its longest side has 320 pixels.
_TILE_SIZE = "small"


class ClientError(Exception):
    """A call got no answer or was refused; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where a server is and who calls. Without ``app_id`` the app is the one that an app key belongs to."""

    base: str
    key: str
    user_id: str = "me"
    app_id: str = ""

    def path(self, resource: str) -> str:
        """The address of a resource of the app."""
        app = f"/users/{quote(self.user_id, safe='')}/apps/{quote(self.app_id, safe='')}" if self.app_id else ""
        return f"{self.base.rstrip('/')}/v2{app}/{resource}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A region, as shares of the picture's height and width."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An area that was found. ``concepts`` are what its annotation says, with their values."""

    score: float
    input_id: str
    annotation_id: str
    concepts: tuple[tuple[str, float], ...]
    box: Box | None = None
    time_ms: int | None = None
    picture_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The hits of a search, best first, and what the server says about how it was understood ('' if nothing)."""

    hits: tuple[Hit, ...]
    note: str


def text_rank(text: str) -> dict[str, Any]:
    """A rank by a text, in the API's JSON."""
    return _rank({"text": {"raw": text}})


def concept_rank(name: str, value: float = 1.0) -> dict[str, Any]:
    """A rank by a concept of that name; value 0 asks for what does not have it."""
    return _rank({"concepts": [{"name": name, "value": value}]})


def rank_by_id_or_name(concept: str) -> dict[str, Any]:
    """A rank by the concept with that id, where there is one, or else by what has that name."""
    return _rank({"concepts": [{"id": concept, "name": concept, "value": 1.0}]})


def image_rank(*, url: str = "", data: bytes = b"") -> dict[str, Any]:
    """A rank by likeness to an image at a URL that the server fetches, or to these bytes."""
    return _rank({"image": {"url": url} if url else {"base64": base64.b64encode(data).decode()}})


def input_filter(input_id: str) -> dict[str, Any]:
    """A filter that leaves one input."""
    return {"input": {"id": input_id}}


def _rank(data: dict[str, Any]) -> dict[str, Any]:
    return {"annotation": {"data": data}}


class ApiClient:
    """One server; ``async with`` opens and closes its connections."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Key {self._access.key}"},
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def search(self, ranks: Sequence[dict[str, Any]], *, count: int, algorithm: str = "") -> Found:
        """The best ``count`` areas by all ranks together. Raises ClientError."""
        return await self.searches([{"query": {"ranks": list(ranks)}, "algorithm": algorithm}], count=count)

    async def searches(self, searches: Sequence[dict[str, Any]], *, count: int) -> Found:
        """The best ``count`` areas of each search, one search after the other. Raises ClientError."""
        body = {"searches": list(searches), "pagination": {"page": 1, "per_page": count}}
        answer = await self.post("annotations/searches", body)
        return Found(hits=tuple(map(read_hit, answer.get("hits", []))), note=answer["status"].get("details", ""))

    async def get(self, resource: str) -> dict[str, Any]:
        """As ``post``; a query may follow the resource."""
        return await self._ask("GET", resource)

    async def post(self, resource: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer of a call that must succeed. Raises ClientError."""
        return await self._ask("POST", resource, body)

    async def _ask(self, method: str, resource: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        path = self._access.path(resource)
        try:
            async with self._session.request(method, path, json=body, allow_redirects=False) as response:
                answer = json.loads(await response.read())
            code, description = answer["status"]["code"], answer["status"]["description"]
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ClientError(
                f"No answer from {self._access.base}: {error or 'it took too long'}. Is `sightrank serve` running?"
            ) from error
        except (ValueError, LookupError, TypeError) as error:
            raise ClientError(f"{self._access.base} does not answer as this API does; check the address.") from error
        if code != _SUCCESS:
            raise ClientError(f"{code} {description}. {answer['status'].get('details', '')}".strip())
        return dict(answer)

    async def pictures(self, hits: Sequence[Hit]) -> list[Image.Image | None]:
        """The picture of each hit's input, upright and small; None where the server has none to show."""
        return list(await asyncio.gather(*(self._picture(hit.picture_url) for hit in hits)))

    async def _picture(self, url: str) -> Image.Image | None:
        if not url:
            return None
        try:
            async with self._session.get(url, allow_redirects=False) as response:
                response.raise_for_status()
                content = await response.read()
            return Image.open(io.BytesIO(content)).convert("RGB")
        except (aiohttp.ClientError, TimeoutError, UnidentifiedImageError, OSError):
            # A sheet with a gap says more than no sheet.
            return None


def read_hit(message: dict[str, Any]) -> Hit:
    """A hit of the API's JSON. What it says is said of its region, or its frame, where it is one."""
    annotation, item = message.get("annotation", {}), message["input"]
    data = annotation.get("data", {})
    frames = data.get("frames", [])
    area = frames[0].get("data", {}) if frames else data
    regions = area.get("regions", [])
    says = regions[0].get("data", {}) if regions else area
    return Hit(
        score=float(message["score"]),
        input_id=item["id"],
        annotation_id=annotation.get("id", ""),
        concepts=tuple((one.get("name") or one["id"], float(one.get("value", 0))) for one in says.get("concepts", [])),
        box=_box(regions[0]) if regions else None,
        time_ms=int(frames[0].get("frame_info", {}).get("time", 0)) if frames else None,
        picture_url=_picture_url(item),
    )


def _box(region: dict[str, Any]) -> Box | None:
    box = region.get("region_info", {}).get("bounding_box")
    if box is None:
        return None
    sides = {"top": "top_row", "left": "left_col", "bottom": "bottom_row", "right": "right_col"}
    return Box(**{side: float(box.get(field, 0)) for side, field in sides.items()})


def _picture_url(item: dict[str, Any]) -> str:
    data = item.get("data", {})
    hosted = data.get("image", {}).get("hosted")
    if hosted:
        return f"{hosted['prefix']}/{_TILE_SIZE}/{hosted['suffix']}"
    return str(data.get("video", {}).get("thumbnail_url", ""))
