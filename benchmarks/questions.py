"""What is searched for: ranks as messages, and what they ask in numbers, to compare answers with the truth."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from numpy.typing import NDArray

from benchmarks.areas import Models, unit_vectors

_QUERIES = 1000

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Term:
    """One rank: likeness to ``direction``, or with a ``scale`` the tagger's sigmoid along it."""

    message: resources_pb2.Rank
    direction: Array
    scale: float | None = None
    bias: float = 0.0

    def scores(self, vectors: Array) -> Array:
        """0..1 for each of [n, dims] stored vectors, in float64."""
        cosines = vectors @ self.direction
        if self.scale is None:
            likeness: Array = (1.0 + np.clip(cosines, -1.0, 1.0)) / 2.0
        else:
            likeness = 1.0 / (1.0 + np.exp(-(self.scale * cosines + self.bias)))
        return 1.0 - likeness if self.message.negate else likeness


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """The ranks of one search; the score is the geometric mean of theirs."""

    terms: tuple[Term, ...]

    @property
    def ranks(self) -> list[resources_pb2.Rank]:
        return [term.message for term in self.terms]

    def scores(self, vectors: Array) -> Array:
        product: Array = np.prod([term.scores(vectors) for term in self.terms], axis=0)
        return np.asarray(product ** (1.0 / len(self.terms)))


#: Each call another question of its kind.
Kind = Callable[[], Question]


def kinds(models: Models) -> Mapping[str, Kind]:
    """The kinds of ranks there are to measure."""
    pictures, concepts = _pictures(models), _concepts(models)
    return {
        "image": lambda: Question((_picture(next(pictures)),)),
        "concept": lambda: Question((_concept(models, next(concepts)),)),
        "image, negated": lambda: Question((_picture(next(pictures), negate=True),)),
        "concept and image": lambda: Question((_concept(models, next(concepts)), _picture(next(pictures)))),
    }


def of_concepts(concept_ids: Sequence[str]) -> Kind:
    """Ranks by these concepts in turn, whoever predicts them; what their scores must be is not told."""
    messages = itertools.cycle([_by_concept(concept_id) for concept_id in concept_ids])
    return lambda: Question((Term(message=next(messages), direction=np.empty(0)),))


def _pictures(models: Models) -> Iterator[Array]:
    vectors = unit_vectors(_QUERIES, models.dims, seed=-1 % 2**32).astype(np.float64)
    return itertools.cycle(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def _concepts(models: Models) -> Iterator[str]:
    return itertools.cycle(models.tagger.ids)


def _picture(vector: Array, *, negate: bool = False) -> Term:
    embedding = resources_pb2.Embedding(vector=vector.tolist(), num_dimensions=len(vector))
    data = resources_pb2.Data(embeddings=[embedding])
    message = resources_pb2.Rank(annotation=resources_pb2.Annotation(data=data), negate=negate)
    # What the message carries are single floats.
    sent = np.asarray(embedding.vector, np.float64)
    return Term(message=message, direction=sent / np.linalg.norm(sent))


def _concept(models: Models, concept_id: str) -> Term:
    row = models.tagger.row(concept_id)
    assert row is not None, f"{concept_id} is a concept of the tagger"
    return Term(
        message=_by_concept(concept_id), direction=row.direction.astype(np.float64), scale=row.scale, bias=row.bias
    )


def _by_concept(concept_id: str) -> resources_pb2.Rank:
    data = resources_pb2.Data(concepts=[resources_pb2.Concept(id=concept_id, value=1.0)])
    return resources_pb2.Rank(annotation=resources_pb2.Annotation(data=data))
