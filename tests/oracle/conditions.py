"""Random conditions of filters. Mostly they are about one annotation of the app, so that several may hold together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from tests.oracle.contents import INFOS, KINDS, TASKS, TRACKS, part_of, place, random_metadata
from tests.oracle.filters import MEDIA, central_angle, radians
from tests.oracle.records import Annotation, App, Input, Version

VALUES = (1.0, 0.0, 1.0, 0.5, 0.3, 0.8)
ANNOTATION_STATUSES = (24150, 24151, 24153, 24155)
INPUT_STATUSES = (30000, 30001, 30002)
_LIMITS = ("withinMiles", "withinKilometers", "withinDegrees", "withinRadians")
#: Distances may be computed with another radius of the Earth or other roundings; limits keep clear of them.
_CLEAR = 1e-4

#: Conditions on the annotation, and on its input.
ANNOTATION_KINDS = (
    *(
        "concepts",
        "concepts",
        "concepts",
        "metadata",
        "metadata",
        "geo",
        "geo",
        "region",
        "region",
        "no region",
        "track",
    ),
    *("frames", "segments", "text", "info", "note", "input", "user", "worker", "task", "model", "trusted", "level"),
    *("status", "workflow", "tagger", "region id", "url", "inner concepts"),
)
INPUT_KINDS = ("owner", "media", "dataset", "dataset", "indexed")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a filter is about: an annotation as it is or once was."""

    item: Input
    annotation: Annotation
    version: Version


def random_target(random: Random, app: App, as_of_us: int | None) -> Target | None:
    """Mostly one that a search as of this time can find."""
    if not app.inputs:
        return None
    item = random.choice(app.inputs)
    notes = item.notes(as_of_us)
    if notes and random.random() < 0.9:
        note = random.choice(notes)
        return Target(item=item, annotation=note.annotation, version=note.version)
    annotation = random.choice(item.annotations)
    return Target(item=item, annotation=annotation, version=random.choice(annotation.versions))


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Makes conditions over one app. ``names`` and ``languages`` are what concepts may be called by."""

    random: Random
    app: App
    names: Sequence[str]
    languages: Sequence[str]
    datasets: Sequence[str]
    users: Sequence[str]
    model_versions: Sequence[str]

    def concept(self, near: Target | None = None) -> resources_pb2.Concept:
        random = self.random
        concept = resources_pb2.Concept(value=random.choice(VALUES))
        if near is not None and near.version.concepts and random.random() < 0.6:
            concept.id, value = random.choice(near.version.concepts)
            if random.random() < 0.7:
                concept.value = 1.0 if value >= 0.5 else 0.0
            return concept
        if random.random() > 0.985:
            concept.name = "no such thing"
            return concept
        kind = random.choice(("id", "id", "name", "name", "name as id", "both"))
        if kind in {"id", "both"}:
            concept.id = random.choice((*self.app.own, *self.app.own, *self.app.public))
        if kind in {"name", "both"}:
            concept.name = random.choice(self.names)
            concept.language = random.choice(self.languages)
        if kind == "name as id":
            concept.id = random.choice(self.names)
        return concept

    def add_to_annotation(self, wanted: resources_pb2.Annotation, kind: str, near: Target | None) -> None:
        random, data = self.random, wanted.data
        plain = self._scalar(kind, near)
        if plain is not None:
            for name, value in plain.items():
                setattr(wanted, name, value)
        elif kind == "status":
            wanted.status.code = near.version.status if near else random.choice(ANNOTATION_STATUSES)
        elif kind == "worker":
            wanted.worker.user.id = near.annotation.user_id if near else random.choice(self.users)
        elif kind == "model":
            version = (near.annotation.model_version_id if near else "") or random.choice((*self.model_versions, "v9"))
            if random.random() < 0.5:
                wanted.model_version_id = version
            else:
                wanted.worker.model.model_version.id = version
        elif kind == "tagger":
            models = [other.model_id for other in (near.item.annotations if near else ()) if other.model_id]
            wanted.worker.model.id = random.choice((*models, "another"))
        elif kind == "workflow":
            wanted.worker.workflow.version.id = "any"
        elif kind == "info":
            known = near.version.info if near else None
            wanted.annotation_info.update(part_of(random, known) if known else random.choice(INFOS))
        elif kind == "no region" and not data.ListFields():
            data.SetInParent()
        else:
            self._add_to_data(data, kind, near)

    def _scalar(self, kind: str, near: Target | None) -> dict[str, Any] | None:
        random = self.random
        if kind == "note":
            return {"id": near.annotation.id if near else random.choice(("note1", "note2", "nobody's"))}
        if kind == "input":
            return {"input_id": near.item.id if near else "nobody's"}
        if kind == "user":
            own = near.annotation.user_id if near else ""
            if own == self.app.user_id and random.random() < 0.5:
                own = "me"
            return {"user_id": own or random.choice((*self.users, "me", "nobody"))}
        if kind == "task":
            return {"task_id": (near.annotation.task_id if near else "") or random.choice(TASKS)}
        return {"trusted": {"trusted": True}, "level": {"input_level": True}}.get(kind)

    def _add_to_data(self, data: resources_pb2.Data, kind: str, near: Target | None) -> None:
        random = self.random
        if kind == "concepts":
            data.concepts.extend(self.concept(near) for _ in range(random.choice((1, 1, 2))))
        elif kind == "region":
            regions = near.version.data.regions if near else ()
            own = [name for region in regions for name in KINDS if region.region_info.HasField(name)]  # type: ignore[arg-type]
            for name in {*own, *random.sample(KINDS, random.choice((1, 1, 2) if not own else (0, 1)))}:
                getattr(data.regions.add().region_info, name).SetInParent()
        elif kind == "track":
            regions = near.version.data.regions if near else ()
            known = [region.track_id for region in regions if region.track_id]
            data.regions.add(track_id=random.choice(known or TRACKS))
        elif kind == "region id":
            data.regions.add(id=(near.version.area.region_id if near else "") or "nobody's")
        elif kind == "url":
            data.image.url = (near.item.url if near else "") or "http://pictures.test/none.jpg"
        elif kind == "inner concepts":
            data.regions.add().data.concepts.append(self.concept(near))
        elif kind == "frames":
            data.frames.add().frame_info.SetInParent()
        elif kind == "segments":
            data.time_segments.add().time_info.SetInParent()
        elif kind == "text":
            data.text.SetInParent()
        elif kind == "metadata":
            self.add_metadata(data, near)
        elif kind == "geo" and not data.HasField("geo"):
            self.add_geo(data.geo, near)

    def add_metadata(self, data: resources_pb2.Data, near: Target | None) -> None:
        known = near.version.metadata if near else None
        wanted = part_of(self.random, known) if known and self.random.random() < 0.8 else random_metadata(self.random)
        if wanted:
            data.metadata.update(wanted)

    def add_geo(self, geo: resources_pb2.Geo, near: Target | None) -> None:
        random = self.random
        own = near.version.place if near else None
        latitude, longitude = own if own is not None and random.random() < 0.7 else place(random)
        if random.random() < 0.35:
            # Borders belong to a box, so corners often are places; in any order.
            other_latitude, other_longitude = place(random)
            rows, columns = [latitude, other_latitude], [longitude, other_longitude]
            random.shuffle(rows)
            random.shuffle(columns)
            for row, column in zip(rows, columns, strict=True):
                corner = geo.geo_box.add().geo_point
                corner.latitude, corner.longitude = row, column
                corner.SetInParent()
            if random.random() < 0.03:
                geo.geo_box.pop()
            return
        geo.geo_point.latitude, geo.geo_point.longitude = latitude, longitude
        geo.geo_point.SetInParent()
        if random.random() > 0.03:
            self._limit(geo.geo_limit, (latitude, longitude))

    def _limit(self, limit: resources_pb2.GeoLimit, centre: tuple[float, float]) -> None:
        """Between two of the places there are, or around all of them, or none at all."""
        random = self.random
        limit.type = random.choice(_LIMITS)
        if random.random() < 0.05:
            limit.value = random.choice((1e6, -1.0))
            if random.random() < 0.3:
                limit.type = random.choice(("", "withinkilometers", "withinParsecs"))
            return
        one = resources_pb2.GeoLimit(type=limit.type, value=1.0)
        angles = sorted({central_angle(centre, v.place) for _, _, v in self.app.versions() if v.place is not None})
        gaps = [
            (low, high)
            for low, high in zip([0.0, *angles], [*angles, math.pi * 1.01], strict=True)
            if high > low * (1.0 + _CLEAR) + 1e-7
        ]
        low, high = random.choice(gaps)
        # At 0 only the very same place is near enough, whatever the radius of the Earth.
        exact = 0.0 if low == 0.0 and (not angles or angles[0] in {0.0} or angles[0] > 1e-6) else (low + high) / 2.0
        limit.value = float(np.float32(exact / radians(one)))

    def add_to_input(self, wanted: resources_pb2.Input, kind: str, near: Target | None) -> None:
        random = self.random
        if kind == "owner":
            wanted.id = near.item.id if near else "nobody's"
        elif kind == "media":
            own = [near.item.media] if near else []
            for media in {*own, random.choice(MEDIA)}:
                getattr(wanted.data, media).SetInParent()
        elif kind == "dataset":
            own = list(near.item.datasets) if near else []
            wanted.dataset_ids.extend(
                random.choice((*own, *own, *self.datasets, "unknown")) for _ in range(random.choice((1, 2)))
            )
        elif kind == "indexed":
            wanted.status.code = near.item.status if near else random.choice(INPUT_STATUSES)

    def changed(self, wanted: resources_pb2.TimeRange, near: Target | None) -> None:
        """Around the moment of the target, borders included."""
        random = self.random
        times = self.app.times_us() or [0]
        at_us = near.version.modified_us if near else random.choice(times)
        if random.random() < 0.7:
            wanted.start_time.CopyFrom(
                timestamp(at_us + random.choice((0, 0, 1, -5, -(10**9))), random.choice((0, 0, 500)))
            )
        if random.random() < 0.5 or not wanted.ListFields():
            wanted.end_time.CopyFrom(timestamp(at_us + random.choice((0, 0, -1, 5, 10**9)), random.choice((0, 0, 500))))


def timestamp(microseconds: int, nanoseconds: int = 0) -> Timestamp:
    """Nobody keeps nanoseconds, but who asks may send them."""
    made = Timestamp()
    made.FromNanoseconds(microseconds * 1000 + nanoseconds)
    return made


def add_nothing(random: Random, message: resources_pb2.Filter) -> None:
    """Something that is set and empty, and says nothing."""
    annotation, owner = message.annotation, message.input
    empty = random.choice(
        (
            annotation.status,
            annotation.worker,
            annotation.worker.model.model_version,
            annotation.annotation_info,
            annotation.data.geo,
            annotation.data.metadata,
            annotation.data.image,
            owner.status,
            owner.data,
            message.last_updated_time_range,
        )
    )
    if random.random() < 0.3:
        random.choice((annotation.data.regions, annotation.data.frames, annotation.data.time_segments)).add()
    else:
        empty.SetInParent()
