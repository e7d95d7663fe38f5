"""Places: what a Geo message asks for, and how that is found among latitudes and longitudes. No I/O.

Distances are great-circle ones on a sphere. SQL first narrows to the rectangle around a circle, which an index serves,
and then computes the haversine.
"""

from __future__ import annotations

import math

from clarifai_grpc.grpc.api import resources_pb2
from psycopg import sql

from sightrank.errors import SearchInvalid
from sightrank.search.query import Circle, GeoBox

EARTH_KM = 6371.0088
MILE_KM = 1.609344
#: The units of a limit: what one of them is in radians.
UNITS = {
    "withinMiles": MILE_KM / EARTH_KM,
    "withinKilometers": 1.0 / EARTH_KM,
    "withinDegrees": math.pi / 180.0,
    "withinRadians": 1.0,
}
#: Degrees by which the rectangle is wider than the circle, so that rounding never cuts a place off.
_SLACK = 1e-7


def read_geo(message: resources_pb2.Geo, where: str) -> Circle | GeoBox:
    """What a filter's Geo asks for. Raises SearchInvalid naming what is wrong with it."""
    is_circle = message.HasField("geo_point") or message.HasField("geo_limit")
    if is_circle and message.geo_box:
        raise SearchInvalid(f"{where} has both a point with its limit and geo_box; send two filters to want both.")
    return _circle(message, where) if is_circle else _box(message, where)


def _circle(message: resources_pb2.Geo, where: str) -> Circle:
    if not message.HasField("geo_limit"):
        raise SearchInvalid(f"{where}.geo_point has no geo_limit; say how far from the point to look.")
    if not message.HasField("geo_point"):
        raise SearchInvalid(f"{where}.geo_limit has no geo_point; say which point is meant.")
    _check_point(message.geo_point, f"{where}.geo_point")
    limit = message.geo_limit
    if limit.type not in UNITS:
        raise SearchInvalid(f"{where}.geo_limit.type is {limit.type!r}; use one of {', '.join(UNITS)}.")
    if not (math.isfinite(limit.value) and limit.value >= 0.0):
        raise SearchInvalid(f"{where}.geo_limit.value is {limit.value:g}; it is a distance of 0 or more.")
    return Circle(
        latitude=message.geo_point.latitude,
        longitude=message.geo_point.longitude,
        radians=min(limit.value * UNITS[limit.type], math.pi),
    )


def _box(message: resources_pb2.Geo, where: str) -> GeoBox:
    if len(message.geo_box) != 2:
        raise SearchInvalid(f"{where}.geo_box has {len(message.geo_box)} points; send two opposite corners.")
    for i, corner in enumerate(message.geo_box):
        if not corner.HasField("geo_point"):
            raise SearchInvalid(f"{where}.geo_box[{i}] has no geo_point; send the latitude and longitude of a corner.")
        _check_point(corner.geo_point, f"{where}.geo_box[{i}].geo_point")
    one, other = (corner.geo_point for corner in message.geo_box)
    return GeoBox(
        south=min(one.latitude, other.latitude),
        west=min(one.longitude, other.longitude),
        north=max(one.latitude, other.latitude),
        east=max(one.longitude, other.longitude),
    )


def _check_point(point: resources_pb2.GeoPoint, where: str) -> None:
    # Written so that a number that is none fails as well.
    if not (-90.0 <= point.latitude <= 90.0 and -180.0 <= point.longitude <= 180.0):
        raise SearchInvalid(
            f"{where} is longitude {point.longitude:g}, latitude {point.latitude:g};"
            " longitude lies in -180..180 and latitude in -90..90."
        )


# SQL ----------------------------------------------------------------------------------------------


def lies_in(wanted: Circle | GeoBox, alias: sql.Composable) -> sql.Composed:
    """Whether the place of the row called ``alias`` lies there; null when it has none."""
    if isinstance(wanted, GeoBox):
        return sql.SQL("({latitude} AND {longitude})").format(
            latitude=_between(alias, "latitude", wanted.south, wanted.north),
            longitude=_between(alias, "longitude", wanted.west, wanted.east),
        )
    if wanted.radians >= math.pi:
        return sql.SQL("{}.latitude IS NOT NULL").format(alias)
    return sql.SQL(
        "({rectangle} AND 2 * asin(least(1, sqrt(sin((radians({alias}.latitude) - {latitude}) / 2) ^ 2"
        " + {cosine} * cos(radians({alias}.latitude))"
        " * sin((radians({alias}.longitude) - {longitude}) / 2) ^ 2))) <= {radians})"
    ).format(
        rectangle=_rectangle(wanted, alias),
        alias=alias,
        latitude=_number(math.radians(wanted.latitude)),
        longitude=_number(math.radians(wanted.longitude)),
        cosine=_number(math.cos(math.radians(wanted.latitude))),
        radians=_number(wanted.radians),
    )


def _rectangle(circle: Circle, alias: sql.Composable) -> sql.Composable:
    """The latitudes and longitudes that the circle reaches. Over a pole it reaches every longitude, and across the
    antimeridian two stretches of them.
    """
    reach = math.degrees(circle.radians) + _SLACK
    south, north = circle.latitude - reach, circle.latitude + reach
    latitudes = _between(alias, "latitude", max(south, -90.0), min(north, 90.0))
    if south <= -90.0 or north >= 90.0:
        return latitudes
    widest = math.sin(circle.radians) / math.cos(math.radians(circle.latitude))
    half = math.degrees(math.asin(min(widest, 1.0))) + _SLACK
    west, east = circle.longitude - half, circle.longitude + half
    stretches = [(max(west, -180.0), min(east, 180.0))]
    if west <= -180.0:
        stretches.append((west + 360.0, 180.0))
    if east >= 180.0:
        stretches.append((-180.0, east - 360.0))
    longitudes = sql.SQL(" OR ").join([_between(alias, "longitude", *stretch) for stretch in stretches])
    return sql.SQL("{} AND ({})").format(latitudes, longitudes)


def _between(alias: sql.Composable, column: str, lowest: float, highest: float) -> sql.Composed:
    return sql.SQL("{}.{} BETWEEN {} AND {}").format(alias, sql.Identifier(column), _number(lowest), _number(highest))


def _number(value: float) -> sql.Composed:
    """A double, for PostgreSQL would read a plain literal as a decimal number and compute exactly, but slowly."""
    return sql.SQL("{}::float8").format(sql.Literal(value))
