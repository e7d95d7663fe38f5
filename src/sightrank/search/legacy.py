"""The legacy form of a search, ``ands``, to the same algebra (api-spec 4.9). No I/O.

An And filters by its ``input`` (by what people said of it and is trusted) and by its ``annotation``, and ranks by its
``output``; ``negate`` holds for whatever it has of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.search.fields import FIELDS, Reading
from sightrank.search.filters import Found, filter_of, read_conditions
from sightrank.search.naming import refuse_others
from sightrank.search.query import FieldCondition, Filter, InputTerm, Rank, Term
from sightrank.search.terms import concept_terms, image_terms

#: What an input says in a legacy search, its annotations say.
_SAID_BY_ANNOTATIONS = {f"input.data.{name}": f"annotation.data.{name}" for name in ("concepts[]", "geo", "metadata")}
_TRUSTED = "annotation.trusted"


def read_and(message: resources_pb2.And, reading: Reading, where: str) -> tuple[list[Filter], list[Rank]]:
    """The filters and ranks of one And; none of either for an empty one. Raises SearchInvalid."""
    reading = replace(reading, negate=message.negate)
    filters = [
        filter_of(_of_input(message.input, reading, f"{where}.input"), negate=message.negate),
        filter_of(
            read_conditions(message.annotation, "annotation", reading, f"{where}.annotation"), negate=message.negate
        ),
    ]
    terms = tuple(_terms(message.output, reading, f"{where}.output"))
    ranks = [Rank(terms=terms, negate=message.negate)] if terms else []
    return [item for item in filters if item is not None], ranks


def _of_input(message: resources_pb2.Input, reading: Reading, where: str) -> Iterator[Found]:
    said = False
    for field, condition in read_conditions(message, "input", reading, where, _SAID_BY_ANNOTATIONS):
        said = said or field.path in _SAID_BY_ANNOTATIONS.values()
        yield field, condition
    if said:
        yield FIELDS[_TRUSTED], FieldCondition(field=_TRUSTED, value=True)


def _terms(output: resources_pb2.Output, reading: Reading, where: str) -> Iterator[Term]:
    refuse_others(output, frozenset({"data", "input"}), where)
    refuse_others(output.data, frozenset({"concepts"}), f"{where}.data")
    refuse_others(output.input, frozenset({"id", "data"}), f"{where}.input")
    refuse_others(output.input.data, frozenset({"image"}), f"{where}.input.data")
    yield from concept_terms(output.data.concepts, reading.language, reading.negate, f"{where}.data.concepts")
    yield from image_terms(output.input.data.image, f"{where}.input.data.image")
    if output.input.id:
        yield InputTerm(input_id=output.input.id)
