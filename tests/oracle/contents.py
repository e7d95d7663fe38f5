"""Random contents of annotations: what filters ask about, with everything in it that is easy to get wrong."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from tests.oracle.records import Area

#: Top, left, bottom and right of every region with an extent.
BOX = (0.1, 0.1, 0.9, 0.9)
KINDS = ("bounding_box", "mask", "polygon", "point", "span", "token")
TRACKS = ("7", "07", "seven")
KEYS = ("color", "Color", "size", "tags", "deep", "no", "ä\"'. b")
#: Equal numbers written differently, texts that look like other scalars, and texts that differ by case.
SCALARS: tuple[Any, ...] = (
    *("red", "Red", "", "1", "true", "null", "%_\\", "ünï"),
    *(1, 1.0, 0, 2, -3, 0.5, 0.1, 1e16, 1e22, 1.5e-7, True, False, None),
)
TASKS = ("", "", "review", "again")
INFOS = ({"source": "import"}, {"source": "Import", "round": 2}, {"round": 2.0, "who": {"team": ["x", "y"]}})
#: Places (latitude, longitude): in a cluster, at the poles, on both sides of the antimeridian, and apart.
PLACES = (
    *((44.0, 55.0), (44.0, 55.0), (44.01, 55.0), (44.0, 55.02), (43.0, 56.0), (44.5, 54.5)),
    *((89.9, 0.0), (89.9, 120.0), (90.0, 10.0), (-89.9, 60.0), (-89.99, -60.0)),
    *((0.0, 179.95), (0.0, -179.95), (0.1, 180.0), (-16.5, -179.999), (0.0, 0.0), (-33.0, 18.0), (40.0, -30.0)),
)


def random_json(random: Random, depth: int = 2) -> Any:
    """A value as metadata holds it, at most ``depth`` levels deep."""
    kind = random.random() if depth else 0.0
    if kind < 0.55:
        return random.choice(SCALARS)
    if kind < 0.8:
        return [random_json(random, depth - 1) for _ in range(random.choice((0, 1, 2, 3)))]
    return {random.choice(KEYS): random_json(random, depth - 1) for _ in range(random.choice((0, 1, 2)))}


def random_metadata(random: Random) -> dict[str, Any]:
    return {random.choice(KEYS): random_json(random) for _ in range(random.choice((0, 1, 1, 2, 3)))}


def part_of(random: Random, value: Any) -> Any:
    """Something that ``value`` contains, mostly: less of its keys, fewer of its elements in another order."""
    if isinstance(value, dict):
        keys = [key for key in value if random.random() < 0.6]
        return {key: part_of(random, value[key]) for key in keys}
    if isinstance(value, list):
        chosen = [part_of(random, item) for item in value if random.random() < 0.6]
        return random.sample(chosen + chosen[:1], len(chosen + chosen[:1]))
    return value


def place(random: Random) -> tuple[float, float]:
    """Latitude and longitude as protobuf keeps them, in float32."""
    latitude, longitude = random.choice(PLACES)
    if random.random() < 0.3:
        latitude, longitude = random.uniform(-90.0, 90.0), random.uniform(-180.0, 180.0)
    return float(np.float32(latitude)), float(np.float32(longitude))


def random_data(random: Random, concepts: Sequence[str], *, part: Area | None) -> resources_pb2.Data:
    """What an annotation says, of this region or frame if it is not None."""
    data = resources_pb2.Data()
    if part is not None and part.frame is not None:
        data.frames.add().frame_info.index = part.frame
    elif part is not None:
        add_region(random, data, part.has_box)
    for concept in random.sample(concepts, random.choice((0, 0, 1, 1, 2, 3))):
        data.concepts.add(id=concept, value=random.choice((0.0, 0.2, 0.5, 0.9, 1.0, 1.0)))
    if random.random() < 0.4:
        data.metadata.update(random_metadata(random))
        data.metadata.SetInParent()
    if random.random() < 0.4:
        data.geo.geo_point.latitude, data.geo.geo_point.longitude = place(random)
        data.geo.geo_point.SetInParent()
    if part is None and random.random() < 0.1:
        data.frames.add().frame_info.index = random.randrange(3)
    if part is None and random.random() < 0.1:
        data.time_segments.add().time_info.begin_time = 0.5
    if random.random() < 0.1:
        data.text.raw = random.choice(("a caption", "{}"))
    return data


def add_region(random: Random, data: resources_pb2.Data, has_box: bool) -> None:
    """A region with a geometry that has an extent or has none, or by its id alone."""
    region = data.regions.add()
    kind = random.choice(("bounding_box", "bounding_box", "polygon", "id") if has_box else (*KINDS[1:], "id"))
    if kind == "id":
        region.id = "known"
    elif kind == "bounding_box":
        box = region.region_info.bounding_box
        box.top_row, box.left_col, box.bottom_row, box.right_col = BOX
    else:
        getattr(region.region_info, kind).SetInParent()
    if random.random() < 0.4:
        region.track_id = random.choice(TRACKS)
