"""Rows to messages: inputs, annotations and hits as clients see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from sightrank.api.annotation_data import fill_data, place_of_concepts
from sightrank.api.call import AppRef
from sightrank.api.identity import PUBLIC_APP, PUBLIC_USER
from sightrank.ingest.media import HostedUrls
from sightrank.search.concepts import ConceptBook
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.vision.thumbnail import SIZES, THUMBNAIL, VIDEO_SIZES
from sightrank.vision.vocabulary import Vocabulary

#: Published texts of the states of inputs and annotations; other codes are failures with their own text.
STATUS_TEXTS: Mapping[int, str] = {
    30000: "Download complete",
    30001: "Download pending",
    30002: "Download failed or we could not process it. Check URL or bytes you send in the request.",
    30003: "Download in progress",
    30106: "Input URL is invalid",
    39996: "Connection attempts to the input URL failed",
    24150: "OK",
    24151: "Annotation pending",
    24152: "Annotation failed",
    24154: "Annotation status unknown",
    24157: "Annotation awaiting review",
    24158: "Annotation review denied",
    24159: "Annotation awaiting consensus review",
}


_SQL = queries.load("concepts")
_EPOCH = datetime.fromtimestamp(0, UTC)


class InputRow(NamedTuple):
    """Columns of the statements ``read`` and ``list`` in inputs.sql."""

    number: int
    id: str
    created_at: datetime
    modified_at: datetime
    status: int
    status_details: str
    media: str
    url: str
    blob: str
    text_raw: str
    width: int
    height: int
    format: str
    color_mode: str
    duration_ms: int
    concept_ids: list[str] | None
    concept_values: list[float] | None
    metadata: dict[str, Any] | None
    latitude: float | None
    longitude: float | None
    data: dict[str, Any] | None


class AnnotationRecord(NamedTuple):
    """Columns of every statement of annotations.sql that reads annotations."""

    input_number: int
    input_id: str
    id: str
    area_id: int
    region_id: str | None
    created_at: datetime
    modified_at: datetime
    status: int
    input_level: bool
    trusted: bool
    user_id: str
    model_id: str
    model_version_id: str
    own_model: bool
    task_id: str
    concept_ids: list[str]
    concept_values: list[float]
    metadata: dict[str, Any] | None
    latitude: float | None
    longitude: float | None
    annotation_info: dict[str, Any] | None
    data: dict[str, Any] | None
    box_top: float | None
    box_left: float | None
    box_bottom: float | None
    box_right: float | None


class Names(NamedTuple):
    """How concepts are called: as the app says for its ``own``, else as the vocabulary does."""

    own: Mapping[str, str]
    vocabulary: Vocabulary

    def of(self, concept_id: str) -> str:
        return self.own.get(concept_id) or self.vocabulary.name(concept_id)


class Records:
    """Makes messages of rows; concept names come from the app and the public vocabulary."""

    def __init__(self, database: Database, book: ConceptBook, urls: HostedUrls) -> None:
        self._database = database
        self._book = book
        self._urls = urls

    async def inputs(self, app: AppRef, rows: Sequence[InputRow]) -> list[resources_pb2.Input]:
        """One message for each row."""
        names = await self.names(app, rows)
        return [self.input(app, row, names) for row in rows]

    async def annotations(self, app: AppRef, rows: Sequence[AnnotationRecord]) -> list[resources_pb2.Annotation]:
        """One message for each row."""
        names = await self.names(app, rows)
        return [annotation_message(app, row, names) for row in rows]

    def fill_hit(
        self,
        message: resources_pb2.Hit,
        app: AppRef,
        row: InputRow,
        annotation: AnnotationRecord,
        own_names: Mapping[str, str],
    ) -> None:
        """Writes an input and an annotation of it into a hit; ``own_names`` are those the app gave its concepts."""
        names = Names(own=own_names, vocabulary=self._book.vocabulary)
        self._fill_input(message.input, app, row, names)
        _fill_annotation(message.annotation, app, annotation, names)

    async def names(self, app: AppRef, rows: Sequence[InputRow] | Sequence[AnnotationRecord]) -> Names:
        """What the concepts of these rows are called."""
        wanted = sorted({concept_id for row in rows for concept_id in row.concept_ids or ()})
        own: dict[str, str] = {}
        if wanted:
            own = dict(await self._database.rows(_SQL["names"], {"bucket": app.bucket, "ids": wanted}))
        return Names(own=own, vocabulary=self._book.vocabulary)

    def input(self, app: AppRef, row: InputRow, names: Names) -> resources_pb2.Input:
        """The message of one row, for whoever makes many in a thread."""
        message = resources_pb2.Input()
        self._fill_input(message, app, row, names)
        return message

    def _fill_input(self, message: resources_pb2.Input, app: AppRef, row: InputRow, names: Names) -> None:
        message.id = row.id
        fill_timestamp(message.created_at, row.created_at)
        fill_timestamp(message.modified_at, row.modified_at)
        fill_status(message.status, row.status, row.status_details)
        data = message.data
        self._fill_media(app, row, data)
        _fill_content(data, app, row, names, rest=row.data)

    def _fill_media(self, app: AppRef, row: InputRow, data: resources_pb2.Data) -> None:
        if row.media == "text":
            data.text.raw = row.text_raw
            if row.url:
                data.text.url = row.url
        if row.media not in ("image", "video", "audio"):
            return
        medium = getattr(data, row.media)
        suffix = self._urls.suffix(app.user_id, app.app_id, row.id)
        medium.url = row.url or f"{self._urls.prefix()}/orig/{suffix}"
        if row.media == "audio":
            return
        if row.blob:
            hosted = medium.hosted
            hosted.prefix, hosted.suffix = self._urls.prefix(), suffix
            hosted.sizes.extend(SIZES if row.media == "image" else VIDEO_SIZES)
            hosted.crossorigin = "use-credentials"
        if row.width and row.media == "image":
            info = medium.image_info
            info.width, info.height, info.format, info.color_mode = row.width, row.height, row.format, row.color_mode
        if row.width and row.media == "video":
            _fill_video(medium, row, f"{self._urls.prefix()}/{THUMBNAIL}/{suffix}" if row.blob else "")


def _fill_video(video: resources_pb2.Video, row: InputRow, thumbnail_url: str) -> None:
    """What is known of a video that was looked at."""
    info = video.video_info
    info.width, info.height, info.video_format = row.width, row.height, row.format
    info.duration_seconds = row.duration_ms / 1000
    video.thumbnail_url = thumbnail_url


def annotation_message(app: AppRef, row: AnnotationRecord, names: Names) -> resources_pb2.Annotation:
    """The message of one row."""
    message = resources_pb2.Annotation()
    _fill_annotation(message, app, row, names)
    return message


def _fill_annotation(message: resources_pb2.Annotation, app: AppRef, row: AnnotationRecord, names: Names) -> None:
    message.id = row.id
    message.input_id = row.input_id
    message.user_id = row.user_id
    message.model_version_id = row.model_version_id
    message.task_id = row.task_id
    message.trusted = row.trusted
    message.input_level = row.input_level
    fill_timestamp(message.created_at, row.created_at)
    fill_timestamp(message.modified_at, row.modified_at)
    fill_status(message.status, row.status, "")
    if row.model_version_id or row.user_id:
        fill_worker(
            message.worker,
            app,
            user_id=row.user_id,
            model_id=row.model_id,
            model_version_id=row.model_version_id,
            own_model=row.own_model,
        )
    if row.annotation_info is not None:
        message.annotation_info.update(row.annotation_info)
    if row.region_id is not None:
        _fill_region(message.data.regions.add(), row)
    _fill_content(message.data, app, row, names, rest=None if row.region_id is not None else row.data)


def fill_worker(
    worker: resources_pb2.Worker,
    app: AppRef,
    *,
    user_id: str,
    model_id: str,
    model_version_id: str,
    own_model: bool,
) -> None:
    """Whose annotations they are: a version of a model, the app's own or a public one, else a person."""
    if not model_version_id:
        worker.user.id = user_id
        return
    model = worker.model
    model.id = model_id
    model.user_id, model.app_id = (app.user_id, app.app_id) if own_model else (PUBLIC_USER, PUBLIC_APP)
    model.model_version.id = model_version_id


def _fill_content(
    data: resources_pb2.Data,
    app: AppRef,
    row: InputRow | AnnotationRecord,
    names: Names,
    *,
    rest: Mapping[str, Any] | None,
) -> None:
    """What was said, after media and region are in; in a page of hits most say nothing or a concept."""
    data.SetInParent()
    if rest or row.metadata is not None or row.latitude is not None:
        fill_data(
            data,
            rest=rest,
            metadata=row.metadata,
            latitude=row.latitude,
            longitude=row.longitude,
        )
    if row.concept_ids and row.concept_values:
        concepts = place_of_concepts(data)
        for concept_id, value in zip(row.concept_ids, row.concept_values, strict=True):
            # Each says whose it is: the app's own, or one of clarifai/main that a model predicted.
            owner = app.app_id if concept_id in names.own else PUBLIC_APP
            concepts.add(id=concept_id, name=names.of(concept_id), value=value, app_id=owner)


def _fill_region(region: resources_pb2.Region, row: AnnotationRecord) -> None:
    """The geometry the client posted, or, for annotations that refer to a region by id, the region's box."""
    posted = (row.data or {}).get("regions")
    if posted:
        json_format.ParseDict(posted[0], region, ignore_unknown_fields=True)
    if not region.HasField("region_info") and row.box_top is not None and row.box_left is not None:
        box = region.region_info.bounding_box
        box.top_row, box.left_col = row.box_top, row.box_left
        box.bottom_row, box.right_col = row.box_bottom or 0.0, row.box_right or 0.0
    region.id = row.region_id or ""


def fill_status(status: Any, code: int, details: str) -> None:
    """Fills a Status message of an input or annotation."""
    status.code = code
    status.description = STATUS_TEXTS.get(code, "")
    status.details = details


def fill_timestamp(message: Timestamp, instant: datetime) -> None:
    """As ``Timestamp.FromDatetime``, at a fraction of its cost: a page of hits has many."""
    since = instant - _EPOCH
    message.seconds = since.days * 86_400 + since.seconds
    message.nanos = since.microseconds * 1000


def timestamp(instant: datetime) -> Timestamp:
    message = Timestamp()
    fill_timestamp(message, instant)
    return message
