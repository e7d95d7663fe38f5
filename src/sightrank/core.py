"""What serving and working share, opened in order and closed in the opposite one. A part of the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sightrank.api.catalogue import Catalogue
from sightrank.ingest.annotator import Annotator
from sightrank.ingest.fetch import Fetcher
from sightrank.ingest.media import HostedUrls, ImageSource
from sightrank.ingest.target import FetchLimits
from sightrank.ingest.workflow import Workflow
from sightrank.installed import InstalledModels, load_installed
from sightrank.search.concepts import ConceptBook
from sightrank.search.fits import Fits
from sightrank.search.wording import Wording
from sightrank.settings import Settings, available_cores
from sightrank.store import vectors
from sightrank.store.blobs import BlobStore
from sightrank.store.clock import Clock
from sightrank.store.database import Database
from sightrank.store.embedded import DataDirectoryError
from sightrank.teach.workbench import PublicModel, Space, Workbench
from sightrank.vision.eye import Eye, ImageLimits
from sightrank.vision.threads import Threads
from sightrank.vision.thumbnail import MediaSizes


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What serving and working share: the database, the models, and where images come from."""

    settings: Settings
    database: Database
    blobs: BlobStore
    sizes: MediaSizes
    threads: Threads
    catalogue: Catalogue
    book: ConceptBook
    wording: Wording
    clock: Clock
    images: ImageSource
    urls: HostedUrls
    workflows: Mapping[str, Workflow]
    workbench: Workbench
    annotator: Annotator
    fits: Fits
    runners: Mapping[str, Eye]
    to_train: asyncio.Event
    to_evaluate: asyncio.Event
    to_count: asyncio.Event
    to_export: asyncio.Event
    embedded: bool

    @property
    def idle(self) -> frozenset[str]:
        """The workflows that run no model."""
        return frozenset(card.id for card in self.catalogue.workflows if not card.models and not card.lacks)


@asynccontextmanager
async def open_core(settings: Settings, database_url: str) -> AsyncIterator[Core]:
    """Database pool, models and image sources. Loading the model overlaps with nothing: it is the slowest step."""
    async with AsyncExitStack() as stack:
        database = Database(database_url)
        await database.open()
        stack.push_async_callback(database.close)
        limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
        threads = Threads(settings.infer_threads or available_cores())
        stack.callback(threads.close)
        installed = await asyncio.to_thread(
            load_installed, threads, limits, models_dir=settings.models_path(), provider=settings.infer_provider
        )
        blobs = _open_blobs(settings.blobs_dir())
        stack.callback(blobs.close)
        await blobs.sweep()
        sizes = MediaSizes(blobs, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes)
        stack.callback(sizes.close)
        fetcher = await stack.enter_async_context(
            Fetcher(allow=settings.fetch_allow_list(), limits=FetchLimits(total_s=settings.fetch_timeout_s))
        )
        urls = HostedUrls(settings.public_url or settings.http_base(settings.http_port))
        catalogue, runners = installed.catalogue(), installed.runners()
        book = ConceptBook(installed.vocabulary)
        images = ImageSource(database, blobs, sizes, fetcher, urls, limits)
        workflows = await _workflows(database, installed)
        fits = Fits(database)
        workbench = Workbench(
            database,
            book,
            fits,
            {
                card.id: PublicModel(id=card.id, type_id=card.type.value, eye=runners[card.id])
                for card in catalogue.models
            },
            {workflow_id: Space(eye=one.eye, table=one.table) for workflow_id, one in workflows.items()},
        )
        yield Core(
            settings=settings,
            database=database,
            blobs=blobs,
            sizes=sizes,
            threads=threads,
            catalogue=catalogue,
            book=book,
            wording=Wording(installed.vocabulary, installed.words),
            clock=Clock(),
            images=images,
            urls=urls,
            workflows=workflows,
            workbench=workbench,
            annotator=Annotator(database, workbench, images),
            fits=fits,
            runners=runners,
            to_train=asyncio.Event(),
            to_evaluate=asyncio.Event(),
            to_count=asyncio.Event(),
            to_export=asyncio.Event(),
            embedded=not settings.database_url,
        )


def _open_blobs(folder: Path) -> BlobStore:
    try:
        return BlobStore(folder)
    except OSError as error:
        raise DataDirectoryError(
            f"Cannot store images in {folder}: {error.strerror or error}. Choose a folder by SIGHTRANK_BLOB_URL."
        ) from error


async def _workflows(database: Database, installed: InstalledModels) -> dict[str, Workflow]:
    """Workflow id to what sees and writes; those that embed nothing are left out."""
    found = {}
    for workflow in installed.workflows:
        card, space = workflow.card, workflow.space
        found[card.id] = Workflow(
            eye=workflow.eye,
            table=await vectors.register(database, space.model_id, space.version_id, space.dims),
            tagger_id=card.tagger.id if card.tagger else "",
            tagger_version_id=card.tagger.version_id if card.tagger else "",
            detector_id=card.detector.id if card.detector else "",
            detector_version_id=card.detector.version_id if card.detector else "",
        )
    return found
