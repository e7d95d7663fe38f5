"""``sightrank search``: asks a running server, shows the hits as a table and a contact sheet (docs/search.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from sightrank.api.bootstrap import CREDENTIALS_FILE, read_credentials
from sightrank.api_client import Access, ApiClient, ClientError, Found, Hit, concept_rank, image_rank, text_rank
from sightrank.client_env import client_addresses
from sightrank.contact_sheet import KINDS, Sheet, Tile, outlined, save
from sightrank.settings import Settings

_WIDTH = 120  # of a table that goes into a file
_WEB = ("http://", "https://")
_SHOWN_CONCEPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is looked for, all of it together. ``image`` is an http(s) URL or a file."""

    text: str = ""
    concepts: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    image: str = ""

    def ranks(self) -> list[dict[str, Any]]:
        """Raises OSError when the image is a file that cannot be read."""
        ranks = [text_rank(self.text)] if self.text else []
        ranks += [concept_rank(name) for name in self.concepts]
        ranks += [concept_rank(name, 0.0) for name in self.without]
        if self.image.startswith(_WEB):
            ranks.append(image_rank(url=self.image))
        elif self.image:
            ranks.append(image_rank(data=Path(self.image).read_bytes()))
        return ranks

    def words(self) -> str:
        """The query in words."""
        parts = [self.text, *self.concepts, *(f"no {name}" for name in self.without)]
        return ", ".join(filter(None, parts)) or "photos that look like this"


def run(access: Access, query: Query, *, count: int, sheet: Path | None) -> None:
    """Searches, prints the hits and writes the contact sheet. Raises ClientError."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    found = asyncio.run(find(access, query, count=count, sheet=sheet))
    show(console, query, found)
    if sheet is not None and found.hits:
        console.print(f"Contact sheet: {sheet}", markup=False, soft_wrap=True)


async def find(access: Access, query: Query, *, count: int, sheet: Path | None = None) -> Found:
    """The hits; where there are some, they are drawn into ``sheet`` too. Raises ClientError."""
    if sheet is not None and sheet.suffix.lower() not in KINDS:
        raise ClientError(f"--sheet {sheet} must end in one of {', '.join(KINDS)}.")
    ranks = _ranks(query)
    async with ApiClient(access) as client:
        begun = time.perf_counter()
        found = await client.search(ranks, count=count)
        took_ms = (time.perf_counter() - begun) * 1000
        if sheet is not None and found.hits:
            pictures = await client.pictures(found.hits)
            _write(sheet, _sheet(query, found, pictures, took_ms))
    return found


def _ranks(query: Query) -> list[dict[str, Any]]:
    try:
        ranks = query.ranks()
    except OSError as error:
        raise ClientError(f"--image {query.image} cannot be read: {error.strerror or error}.") from error
    if not ranks:
        raise ClientError("Say what to look for: a text, --concept, --without or --image.")
    return ranks


def find_access(settings: Settings, app_id: str, environment: Mapping[str, str]) -> Access:
    """The server and the key: of ``CLARIFAI_*`` where the environment has ``CLARIFAI_API_BASE``, else of the folder.

    Raises ClientError where there are none, or where the only key belongs to another app than the one asked for, and
    BootstrapError for credentials that cannot be read.
    """
    base = environment.get("CLARIFAI_API_BASE", "")
    if base:
        token, app_key = environment.get("CLARIFAI_PAT", ""), environment.get("CLARIFAI_API_KEY", "")
        user_id, own_app = environment.get("CLARIFAI_USER_ID", ""), environment.get("CLARIFAI_APP_ID", "")
        where = "CLARIFAI_PAT and CLARIFAI_API_KEY"
    else:
        credentials = read_credentials(settings.data_dir / CREDENTIALS_FILE)
        if credentials is None:
            raise ClientError(
                f"There are no credentials in {settings.data_dir}. Start `sightrank serve` with this --data-dir first."
            )
        base = client_addresses(settings)[0]
        token, app_key = credentials.pat, credentials.api_key
        user_id, own_app = credentials.user_id, credentials.app_id
        where = str(settings.data_dir / CREDENTIALS_FILE)
    if token and (app_id or own_app):
        return Access(base=base, key=token, user_id=user_id or "me", app_id=app_id or own_app)
    if app_key and app_id in ("", own_app):
        return Access(base=base, key=app_key)
    wanted = f"app {app_id}" if app_id else "an app"
    raise ClientError(f"{where} give no key for {wanted}. A personal access token reads every app of its user.")


def show(console: Console, query: Query, found: Found) -> None:
    """Prints the hits, best first, under the server's note."""
    if found.note:
        console.print(found.note, markup=False, style="dim")
    if not found.hits:
        console.print(f"No hits for {query.words()}: the app has no indexed image.", markup=False)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("rank", "score"):
        table.add_column(name, justify="right")
    table.add_column("input", overflow="fold")
    table.add_column("where")
    table.add_column("labels")
    table.add_column("annotation", overflow="fold", style="dim")
    for rank, hit in enumerate(found.hits, start=1):
        cells = (hit.input_id, place(hit), labels(hit), hit.annotation_id)
        table.add_row(str(rank), f"{hit.score:.3f}", *map(_plain, cells))
    console.print(table)


def place(hit: Hit, whole: str = "whole image") -> str:
    """Which part of the input was found; ``whole`` where it is all of it."""
    parts = []
    if hit.time_ms is not None:
        parts.append(f"at {hit.time_ms / 1000:g} s")
    if hit.box is not None:
        box = hit.box
        parts.append(f"region {box.top:.2f} {box.left:.2f} {box.bottom:.2f} {box.right:.2f}")
    return ", ".join(parts) or whole


def labels(hit: Hit) -> str:
    """What the hit's annotation says, surest first."""
    surest = sorted(hit.concepts, key=lambda pair: -pair[1])[:_SHOWN_CONCEPTS]
    return ", ".join(f"{name} {value:.2f}" for name, value in surest)


def _plain(text: str) -> str:
    """A cell in which rich reads no markup."""
    return text.replace("[", r"\[")


def _sheet(query: Query, found: Found, pictures: Sequence[Image.Image | None], took_ms: float) -> Sheet:
    tiles = [
        Tile(picture=_framed(picture, hit), title=_title(hit), score=hit.score, why=labels(hit) or place(hit, whole=""))
        for hit, picture in zip(found.hits, pictures, strict=True)
    ]
    example = None if not query.image or query.image.startswith(_WEB) else _opened(Path(query.image))
    return Sheet(
        heading="Search",
        title="By an image" if query.image else "By words" if query.text else "By concepts",
        words=query.words(),
        plain_words="",
        note=found.note,
        footer=f"sightrank - {len(found.hits)} hits, {took_ms:.0f} ms",
        picture=example,
        tiles=tiles,
    )


def _title(hit: Hit) -> str:
    """Of a video the sheet shows its beginning, so the title says when it was."""
    return hit.input_id if hit.time_ms is None else f"{hit.input_id} at {hit.time_ms / 1000:g} s"


def _framed(picture: Image.Image | None, hit: Hit) -> Image.Image | None:
    if picture is None or hit.box is None:
        return picture
    return outlined(picture, (hit.box.top, hit.box.left, hit.box.bottom, hit.box.right))


def _opened(path: Path) -> Image.Image | None:
    """The query's own image; None when it is of a kind that only the server reads."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError:
        return None


def _write(path: Path, sheet: Sheet) -> None:
    try:
        save(sheet, path)
    except OSError as error:
        raise ClientError(f"--sheet {path} cannot be written: {error.strerror or error}.") from error
