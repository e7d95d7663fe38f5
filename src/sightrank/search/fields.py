"""Everything a filter can ask for, as one table: the field of a Filter message, how it is read, how it becomes SQL, and
what it means in a sentence. Parsing, SQL and the table in docs/search.md follow from it, so a new field is a new row.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.search import conditions
from sightrank.search.conditions import Compile, Own, contains, equals, ever, has_kind, inherited, itself
from sightrank.search.contents import wanted_contents
from sightrank.search.geo import read_geo
from sightrank.search.naming import concept_name, instant, share
from sightrank.search.query import ConceptCondition, Condition, FieldCondition, Period

ME = "me"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a field's value is read with: the language of the query, who "me" is, and whether the filter negates."""

    language: str = ""
    me: str = ME
    negate: bool = False


Read = Callable[[Any, Reading, str], Iterator[Hashable]]


class Subject(Enum):
    """What a condition is about: an annotation ``a``, the row ``i`` of an input, or no more than the input's number."""

    ANNOTATION = "annotation"
    INPUT = "input"
    NUMBER = "number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One row. ``group``: fields of one group are alternatives. ``is_kind``: the field is a message that is sent empty.
    ``nullable``: the SQL may be null. ``opens``: whoever asks for it means annotations of models. ``likely``: a query
    for the inputs that can have such an annotation at another time, by an index.
    """

    path: str
    sentence: str
    compile: Compile
    read: Read
    group: str
    subject: Subject = Subject.ANNOTATION
    is_kind: bool = False
    nullable: bool = False
    opens: bool = False
    likely: Compile | None = None

    def conditions(self, value: Any, reading: Reading, where: str) -> Iterator[Condition]:
        """What the value of the field asks for. Raises SearchInvalid."""
        for wanted in self.read(value, reading, where):
            yield wanted if isinstance(wanted, ConceptCondition) else FieldCondition(field=self.path, value=wanted)


# How values are read ------------------------------------------------------------------------------


def _as_it_is(value: Any, reading: Reading, where: str) -> Iterator[Hashable]:
    yield value


def _user(value: str, reading: Reading, where: str) -> Iterator[Hashable]:
    yield reading.me if value == ME else value


def _concept(value: resources_pb2.Concept, reading: Reading, where: str) -> Iterator[Hashable]:
    # Under negate a value of 0 reads as 1: gRPC cannot tell an absent value from 0 (design, score laws).
    positive = share(value.value, f"{where}.value") >= 0.5 or (reading.negate and value.value == 0.0)
    yield ConceptCondition(concept=concept_name(value, reading.language, where), positive=positive)


def _contents(value: Any, reading: Reading, where: str) -> Iterator[Hashable]:
    yield from wanted_contents(value, where)


def _geo(value: resources_pb2.Geo, reading: Reading, where: str) -> Iterator[Hashable]:
    if value.ListFields():
        yield read_geo(value, where)


def _period(value: resources_pb2.TimeRange, reading: Reading, where: str) -> Iterator[Hashable]:
    start = instant(value.start_time, f"{where}.start_time", up=True) if value.HasField("start_time") else None
    end = instant(value.end_time, f"{where}.end_time") if value.HasField("end_time") else None
    if start or end:
        yield Period(start=start, end=end)


# The table ----------------------------------------------------------------------------------------


def _field(
    path: str,
    compile: Compile,
    sentence: str,
    *,
    read: Read = _as_it_is,
    group: str = "",
    subject: Subject = Subject.ANNOTATION,
    nullable: bool = False,
    opens: bool = False,
    likely: Compile | None = None,
) -> Field:
    return Field(
        path=path,
        sentence=sentence,
        compile=compile,
        read=read,
        group=group or path,
        subject=subject,
        nullable=nullable,
        opens=opens,
        likely=likely,
    )


def _kind(path: str, compile: Compile, sentence: str, *, likely: Compile | None = None) -> Field:
    """A message that is sent empty and asks whether there is one."""
    return Field(
        path=path,
        sentence=sentence,
        compile=compile,
        read=lambda value, reading, where: iter((True,)),
        group="kind of data",
        is_kind=True,
        likely=likely,
    )


def _data_kind(path: str, own: Own, sentence: str) -> Field:
    return _kind(path, itself(own), sentence, likely=ever(own))


def _geometry(name: str, words: str) -> Field:
    return _data_kind(
        f"annotation.data.regions[].region_info.{name}",
        has_kind(f"region.{name}", {"regions": [{"region_info": {name: {}}}]}),
        f"`{{}}`: annotations of a region that is {words}.",
    )


def _medium(name: str) -> Field:
    return Field(
        path=f"input.data.{name}",
        sentence=f"`{{}}`: what belongs to {name} inputs. Media types and `input.status.code` are alternatives.",
        compile=lambda values, view: equals("i.media")([name], view),
        read=lambda value, reading, where: iter((name,)),
        group="input.data or input.status",
        subject=Subject.INPUT,
        is_kind=True,
    )


_BY_MODEL = "a.model_version_id <> ''"
_CONCEPTS = "concepts"
_INFO, _METADATA = contains("annotation_info", "i"), contains("metadata", "m")
_ROWS = (
    _field("annotation.id", equals("a.id"), "The annotation of this id."),
    _field(
        "annotation.input_id",
        conditions.input_of_id,
        "Annotations of the input of this id.",
        subject=Subject.NUMBER,
    ),
    _field("annotation.user_id", equals("a.user_id"), "Annotations written by this user; `me` is you.", read=_user),
    _field("annotation.worker.user.id", equals("a.user_id"), "The same as `annotation.user_id`.", read=_user),
    _field(
        "annotation.model_version_id",
        equals("a.model_version_id"),
        "Predictions of this model version, which no other filter looks at.",
        opens=True,
    ),
    _field(
        "annotation.worker.model.model_version.id",
        equals("a.model_version_id"),
        "The same as `annotation.model_version_id`.",
        opens=True,
    ),
    _field(
        "annotation.worker.model.id",
        equals("a.model_id", indexed_where=_BY_MODEL),
        "Predictions of this model, whichever version made them.",
        opens=True,
    ),
    _field(
        "annotation.worker.workflow.version.id",
        conditions.nothing,
        "Nothing: here models write predictions, not workflows.",
    ),
    _field("annotation.task_id", equals("a.task_id"), "Annotations that belong to this task."),
    _field("annotation.status.code", equals("a.status"), "Annotations in this status, by name or number."),
    _field("annotation.trusted", conditions.is_true("a.trusted"), "`true`: trusted annotations only."),
    _field("annotation.input_level", conditions.is_true("a.input_level"), "`true`: each input's own annotation only."),
    _field(
        "annotation.annotation_info",
        itself(_INFO),
        "Annotations whose `annotation_info` contains this, as for metadata.",
        likely=ever(_INFO),
        read=_contents,
    ),
    _kind(
        "annotation.data",
        conditions.is_of_the_whole,
        "`{}`, set and empty: annotations of neither a region nor a frame nor a time segment.",
    ),
    _field(
        "annotation.data.concepts[]",
        conditions.says,
        "Annotations that say that the concept is there (value 1) or is not (0). Several are alternatives.",
        read=_concept,
        group=_CONCEPTS,
        likely=conditions.ever_said,
    ),
    _field(
        "annotation.data.regions[].data.concepts[]",
        conditions.says,
        "The same as `annotation.data.concepts[]`.",
        read=_concept,
        group=_CONCEPTS,
        likely=conditions.ever_said,
    ),
    _field(
        "annotation.data.frames[].data.concepts[]",
        conditions.says,
        "The same as `annotation.data.concepts[]`.",
        read=_concept,
        group=_CONCEPTS,
        likely=conditions.ever_said,
    ),
    _field(
        "annotation.data.metadata",
        inherited(_METADATA, "metadata"),
        "Metadata contains one of these keys with what is under it, at any depth. An annotation without metadata of its"
        " own has its input's.",
        likely=ever(_METADATA),
        read=_contents,
    ),
    _field(
        "annotation.data.geo",
        inherited(conditions.is_in_place, "latitude"),
        "The place lies within `geo_limit` of `geo_point`, or in the box between the two points of `geo_box`. An"
        " annotation without a place of its own has its input's.",
        likely=ever(conditions.is_in_place),
        read=_geo,
        nullable=True,
    ),
    _field(
        "annotation.data.image.url",
        conditions.input_of_url,
        "Annotations of the input that was posted with exactly this URL.",
        subject=Subject.INPUT,
    ),
    _kind(
        "annotation.data.regions[].region_info.bounding_box",
        conditions.has_box,
        "`{}`: annotations of a region that is a box.",
    ),
    _geometry("mask", "a mask"),
    _geometry("polygon", "a polygon"),
    _geometry("point", "a point"),
    _geometry("span", "a span of text"),
    _geometry("token", "a token of text"),
    _field("annotation.data.regions[].id", conditions.is_of_region, "Annotations of the region of this id."),
    _field(
        "annotation.data.regions[].track_id",
        itself(conditions.has_track),
        "Annotations of a region on this track.",
        likely=ever(conditions.has_track),
    ),
    _data_kind(
        "annotation.data.frames[].frame_info",
        has_kind("frames", {"frames": [{}]}),
        "`{}`: annotations of a frame.",
    ),
    _data_kind(
        "annotation.data.time_segments[].time_info",
        has_kind("time_segments", {"time_segments": [{}]}),
        "`{}`: annotations of a time segment.",
    ),
    _data_kind("annotation.data.text", has_kind("text", {"text": {}}), "`{}`: annotations with a text."),
    _field(
        "last_updated_time_range",
        conditions.in_period,
        "Annotations last changed from `start_time` to `end_time`, both included; either may be left out.",
        read=_period,
    ),
    _field("input.id", conditions.input_of_id, "What belongs to the input of this id.", subject=Subject.NUMBER),
    _field(
        "input.dataset_ids[]",
        conditions.in_dataset,
        "What belongs to the members of one of these datasets.",
        subject=Subject.NUMBER,
    ),
    _medium("image"),
    _medium("video"),
    _medium("text"),
    _medium("audio"),
    _field(
        "input.status.code",
        equals("i.status"),
        "What belongs to inputs in this status, for example 30000.",
        group="input.data or input.status",
        subject=Subject.INPUT,
    ),
    _field(
        "input.data.image.url",
        conditions.input_of_url,
        "What belongs to the input that was posted with exactly this URL.",
        subject=Subject.INPUT,
    ),
)

FIELDS: Mapping[str, Field] = {row.path: row for row in _ROWS}
#: Fields that describe what another one says, as answers of the API do; a filter may repeat them.
IGNORED = frozenset(
    f"{of}.status.{field}" for of in ("annotation", "input") for field in ("description", "details", "reason")
) | {"negate"}
#: Fields that are refused with a reason of their own.
REFUSED = {"annotation.data.clusters[]": "no clusterer is part of this server; leave clusters out."}


def field_of(condition: Condition) -> Field:
    """The row a condition comes from."""
    if isinstance(condition, ConceptCondition):
        return FIELDS["annotation.data.concepts[]"]
    return FIELDS[condition.field]
