"""What ranks are made of: messages to terms. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.errors import SearchInvalid
from sightrank.search.naming import concept_name, refuse_nul, refuse_others, share
from sightrank.search.query import ConceptTerm, ImageTerm, InputTerm, Rank, Term, TextTerm, VectorTerm

_OF_ANNOTATION = frozenset({"data", "input_id", "model_version_id"})
_OF_DATA = frozenset({"concepts", "image", "embeddings", "text"})


def read_rank(message: resources_pb2.Rank, language: str, where: str) -> Rank | None:
    """One Rank; None for one that says nothing. Raises SearchInvalid."""
    annotation = message.annotation
    refuse_others(annotation, _OF_ANNOTATION, f"{where}.annotation")
    refuse_others(annotation.data, _OF_DATA, f"{where}.annotation.data")
    terms = tuple(_terms(annotation, language, message.negate, f"{where}.annotation"))
    if not terms:
        return None
    return Rank(terms=terms, negate=message.negate, model_version_id=annotation.model_version_id)


def _terms(annotation: resources_pb2.Annotation, language: str, negate: bool, where: str) -> Iterator[Term]:
    data = annotation.data
    yield from concept_terms(data.concepts, language, negate, f"{where}.data.concepts")
    yield from image_terms(data.image, f"{where}.data.image")
    if annotation.input_id:
        yield InputTerm(input_id=annotation.input_id)
    if data.embeddings:
        yield VectorTerm(vectors=tuple(_vectors(data.embeddings, f"{where}.data.embeddings")))
    if data.text.raw:
        refuse_nul(data.text.raw, f"{where}.data.text.raw")
        yield TextTerm(raw=data.text.raw, language=language)
    elif data.text.url:
        raise SearchInvalid(f"{where}.data.text.url: send the text itself in text.raw.")


def concept_terms(
    concepts: Sequence[resources_pb2.Concept], language: str, negate: bool, where: str
) -> Iterator[ConceptTerm]:
    """One term for each concept. Raises SearchInvalid."""
    for i, concept in enumerate(concepts):
        # Under negate a value of 0 reads as 1: gRPC cannot tell an absent value from 0 (design, score laws).
        value = 1.0 if negate and concept.value == 0.0 else concept.value
        name = concept_name(concept, language, f"{where}[{i}]")
        yield ConceptTerm(concept=name, value=share(value, f"{where}[{i}].value"))


def image_terms(image: resources_pb2.Image, where: str) -> Iterator[ImageTerm]:
    """The image, if there is one. Raises SearchInvalid when there are two."""
    if image.base64 and image.url:
        raise SearchInvalid(f"{where} has both url and base64; send one of them.")
    if image.base64 or image.url:
        yield ImageTerm(url=image.url, data=image.base64)


def _vectors(embeddings: Iterable[resources_pb2.Embedding], where: str) -> Iterator[tuple[float, ...]]:
    for i, embedding in enumerate(embeddings):
        vector = tuple(embedding.vector)
        if embedding.num_dimensions and embedding.num_dimensions != len(vector):
            raise SearchInvalid(
                f"{where}[{i}] has {len(vector)} numbers but num_dimensions says {embedding.num_dimensions}."
            )
        if not all(math.isfinite(number) for number in vector):
            raise SearchInvalid(f"{where}[{i}].vector holds a number that is not finite.")
        yield vector
