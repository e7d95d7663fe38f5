"""A parsed query and what was found out about its terms, to ranks of directions. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import SearchInvalid
from sightrank.search.compiled import NO_LABELS, CompiledRank, CompiledTerm, Labels
from sightrank.search.concepts import Meaning
from sightrank.search.query import (
    ConceptName,
    ConceptTerm,
    ImageTerm,
    InputTerm,
    Query,
    Rank,
    Term,
    TextTerm,
    VectorTerm,
)
from sightrank.search.score import Array, Direction, Link, unit
from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.tagger import Tagger, TaggerRow

#: The model version that a rank names ('' for none), and the ids under which a concept goes.
ConceptOfRank = tuple[str, tuple[str, ...]]
#: The direction that predicts a concept, and the labels that override it.
Evidence = tuple[Direction, Labels]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What I/O found out about the terms of the ranks. ``inputs`` are the means of the vectors of inputs."""

    concepts: Mapping[ConceptName, Meaning]
    evidence: Mapping[ConceptOfRank, Evidence]
    images: Mapping[ImageTerm, NDArray[np.float32]]
    texts: Mapping[TextTerm, NDArray[np.float32]]
    inputs: Mapping[InputTerm, Array]


def compile_ranks(query: Query, gathered: Gathered, dims: int) -> tuple[CompiledRank, ...]:
    """Raises SearchInvalid for what is no direction."""
    return tuple(_rank(item, gathered, dims) for item in query.ranks)


def predicted_direction(tagger: Tagger | None, ids: Sequence[str]) -> Direction | None:
    """The tagger's own direction of a concept, under the first of its ids that it knows."""
    rows = (tagger.row(concept_id) for concept_id in ids) if tagger else ()
    row = next((row for row in rows if row is not None), None)
    return row_direction(row) if row is not None else None


def fitted_direction(model: ConceptModel, ids: Sequence[str]) -> Direction | None:
    """A trained model's direction of a concept, under the first of its ids that it knows."""
    rows = next((rows for concept_id in ids if (rows := model.logits(concept_id))), ())
    if not rows:
        return None
    own, *rivals = [row_direction(row) for row in rows]
    return replace(own, rivals=tuple(rivals))


def row_direction(row: TaggerRow) -> Direction:
    """The direction of one concept of a tagger."""
    return Direction(vector=row.direction.astype(np.float64), link=Link.SIGMOID, scale=row.scale, bias=row.bias)


def _rank(item: Rank, gathered: Gathered, dims: int) -> CompiledRank:
    return CompiledRank(terms=tuple(_term(term, item, gathered, dims) for term in item.terms), negate=item.negate)


def _term(term: Term, item: Rank, gathered: Gathered, dims: int) -> CompiledTerm:
    if isinstance(term, ConceptTerm):
        asked = [(item.model_version_id, ids) for ids in gathered.concepts[term.concept]]
        # A model version that a rank names speaks only for what it knows of all that a name means.
        alternatives = tuple(gathered.evidence[one] for one in asked if one in gathered.evidence)
        return CompiledTerm(alternatives=alternatives, value=term.value)
    return CompiledTerm(alternatives=((Direction(vector=_similarity(term, gathered, dims)), NO_LABELS),))


def _similarity(term: Term, gathered: Gathered, dims: int) -> Array:
    if isinstance(term, ImageTerm):
        vector = gathered.images[term].astype(np.float64)
        what = "The query image"
    elif isinstance(term, InputTerm):
        vector = gathered.inputs[term]
        what = f"The mean of input {term.input_id!r}"
    elif isinstance(term, TextTerm):
        vector = gathered.texts[term].astype(np.float64)
        what = "The text"
    elif isinstance(term, VectorTerm):
        vector = _mean_of(term, dims)
        what = "The mean of the embeddings"
    else:
        raise AssertionError(f"{type(term).__name__} is compiled elsewhere")
    direction = unit(vector)
    if direction is None:
        raise SearchInvalid(f"{what} is zero, which is no direction to rank by.")
    return direction


def _mean_of(term: VectorTerm, dims: int) -> Array:
    for i, vector in enumerate(term.vectors):
        if len(vector) != dims:
            raise SearchInvalid(f"embeddings[{i}] has {len(vector)} numbers; the app's embedder makes {dims}.")
    vectors = [unit(np.asarray(vector, np.float64)) for vector in term.vectors]
    if any(vector is None for vector in vectors):
        raise SearchInvalid("An embedding is zero, which is no direction to rank by.")
    mean: Array = np.mean(np.stack([vector for vector in vectors if vector is not None]), axis=0)
    return mean
