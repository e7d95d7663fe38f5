"""Runs a parsed search: names to ids, ranks to directions, filters to candidates, scores to hits.

resolve names, look at query images (I/O)  ->  candidates (SQL)  ->  follow the matrix  ->  compile and rank (pure)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import AppError, DoesNotExist, SearchInvalid, SearchNotIndexed, SearchPredictionFailed
from sightrank.search import sql
from sightrank.search.concepts import ConceptBook, Meaning
from sightrank.search.follow import Matrices, Versions
from sightrank.search.matrix import Matrix
from sightrank.search.plan import Plan, plan
from sightrank.search.query import (
    ConceptCondition,
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
from sightrank.search.rank import NO_LABELS, CompiledRank, CompiledTerm, Labels, Ranking, rank
from sightrank.search.score import Array, Direction, Link, to_score, unit
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.tagger import Tagger

_SQL = queries.load("search")
_T = TypeVar("_T")
#: Rows times directions above which scoring leaves the event loop: below it, the way to a thread costs more.
_INLINE_WORK = 100_000

#: Turns a query image (url or bytes) into its unit vector; the bucket allows hosted URLs of the app's own inputs.
Look = Callable[[int, ImageTerm], Awaitable[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchScope:
    """The app a search runs in. ``table`` and ``tagger`` are None when its base workflow embeds nothing."""

    bucket: int
    default_language: str
    table: EmbedderTable | None
    tagger: Tagger | None
    model_version_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One hit. ``annotation_id`` is None when the annotation that speaks for ``area_id`` is wanted; ``area_id`` is None
    for hits of an unranked search."""

    score: float
    input_number: int
    area_id: int | None
    annotation_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathered:
    """What I/O found out about the terms of the ranks."""

    concepts: Mapping[ConceptName, Meaning]
    labels: Mapping[tuple[str, ...], Labels]
    images: Mapping[ImageTerm, NDArray[np.float32]]
    inputs: Mapping[InputTerm, int]


class SearchEngine:
    """Searches over all apps of one database."""

    def __init__(self, database: Database, matrices: Matrices, concepts: ConceptBook, look: Look) -> None:
        self._database = database
        self._matrices = matrices
        self._concepts = concepts
        self._look = look

    def seen(self, scope: SearchScope, query: Query) -> Versions | None:
        """Versions as of which ``run`` can rank with what this process holds already; None where the query needs the
        database anyway.
        """
        return self._matrices.seen(scope.bucket) if plan(query) is Plan.RANK else None

    async def run(self, scope: SearchScope, query: Query, versions: Versions | None = None) -> list[Hit]:
        """One page of hits, as of ``versions`` or later; without them, as of now.

        Raises SearchInvalid, SearchNotIndexed, SearchPredictionFailed or DoesNotExist.
        """
        concepts = await self._resolve(scope, query)
        filters = sql.FilterScope(bucket=scope.bucket, concepts=concepts)
        chosen = plan(query)
        if chosen is Plan.FILTER:
            rows = await self._database.rows(sql.page(query, filters))
            return [Hit(score=1.0, input_number=number, area_id=None, annotation_id=name) for number, name in rows]
        if scope.table is None:
            raise SearchInvalid("The base workflow of this app is Empty, which does not support search by rank.")
        self._check_ranks(scope, query, concepts)
        images = {term: await self._image(scope.bucket, term) for term in _terms(query, ImageTerm)}
        inputs = {term: await self._input_number(scope.bucket, term) for term in _terms(query, InputTerm)}
        annotation_of: dict[int, str | None] | None = None
        if chosen is Plan.FILTER_THEN_RANK:
            rows = await self._database.rows(sql.candidates(query, filters))
            annotation_of = {area_id: annotation_id for area_id, _, annotation_id in rows}
        # The version is read after the candidates: the matrix then holds at least the areas they name.
        versions = versions or await self._matrices.versions(scope.bucket)
        gathered = _Gathered(
            concepts=concepts,
            labels=await self._all_labels(scope.bucket, query, concepts, versions),
            images=images,
            inputs=inputs,
        )
        async with self._matrices.following(scope.table, scope.bucket, versions) as matrix:
            return await _score(matrix, scope, query, gathered, annotation_of)

    async def count(self, scope: SearchScope, query: Query) -> int:
        """How many inputs the filters of an input search leave."""
        concepts = await self._resolve(scope, query)
        row = await self._database.row(sql.count(query, sql.FilterScope(bucket=scope.bucket, concepts=concepts)))
        return int(row[0]) if row else 0

    async def _resolve(self, scope: SearchScope, query: Query) -> dict[ConceptName, Meaning]:
        names = {term.concept for term in _terms(query, ConceptTerm)}
        names |= {
            condition.concept
            for item in query.filters
            for group in item.groups
            for condition in group
            if isinstance(condition, ConceptCondition)
        }
        if not names:
            return {}
        ordered = list(names)
        async with self._database.connection() as connection:
            ids = await self._concepts.resolve_all(connection, scope.bucket, ordered, scope.default_language)
        return dict(zip(ordered, ids, strict=True))

    @staticmethod
    def _check_ranks(scope: SearchScope, query: Query, concepts: Mapping[ConceptName, Meaning]) -> None:
        for item in query.ranks:
            if item.model_version_id and item.model_version_id not in scope.model_version_ids:
                raise SearchInvalid(
                    f"model_version_id {item.model_version_id!r} is not part of the app's base workflow"
                    f" ({', '.join(sorted(scope.model_version_ids))}); leave it out to use the workflow's own."
                )
        for term in _terms(query, TextTerm):
            raise SearchInvalid(
                f"The base workflow of this app cannot read text, so it cannot rank by {term.raw[:40]!r};"
                " rank by a concept's name instead."
            )
        for concept_term in _terms(query, ConceptTerm):
            if not concepts[concept_term.concept]:
                raise SearchInvalid(
                    f"No concept with {concept_term.concept.describe()} is known to this app or to clarifai/main;"
                    " PostConceptsSearches finds the names there are."
                )

    async def _image(self, bucket: int, term: ImageTerm) -> NDArray[np.float32]:
        try:
            return await self._look(bucket, term)
        except AppError as error:
            if error.code in (30002, 30105, 30106, 39996):
                raise SearchPredictionFailed(f"The query image could not be used: {error}") from error
            raise

    async def _input_number(self, bucket: int, term: InputTerm) -> int:
        row = await self._database.row(_SQL["input_to_rank_by"], {"bucket": bucket, "id": term.input_id})
        if row is None:
            raise DoesNotExist(f"There is no input {term.input_id!r} in this app to rank by.")
        if row[1] != sql.INDEXED:
            raise SearchNotIndexed(
                f"Input {term.input_id!r} has status {row[1]}; rank by it once it has {sql.INDEXED}."
            )
        return int(row[0])

    async def _all_labels(
        self, bucket: int, query: Query, concepts: Mapping[ConceptName, Meaning], versions: Versions
    ) -> dict[tuple[str, ...], Labels]:
        wanted = {ids for term in _terms(query, ConceptTerm) for ids in concepts[term.concept]}
        return {ids: await self._matrices.labels(bucket, ids, versions) for ids in wanted}


def _terms(query: Query, kind: type[_T]) -> list[_T]:
    return [term for item in query.ranks for term in item.terms if isinstance(term, kind)]


# Pure from here on --------------------------------------------------------------------------------


async def _score(
    matrix: Matrix,
    scope: SearchScope,
    query: Query,
    gathered: _Gathered,
    annotation_of: Mapping[int, str | None] | None,
) -> list[Hit]:
    """Compiles and ranks: at once for small matrices, in a thread for large ones."""
    directions = sum(len(item.terms) for item in query.ranks)
    if len(matrix) * directions <= _INLINE_WORK:
        return _hits(matrix, scope, query, gathered, annotation_of)
    work = asyncio.ensure_future(asyncio.to_thread(_hits, matrix, scope, query, gathered, annotation_of))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        # The thread goes on reading the matrix: whoever holds its lock must not let go before it is done.
        await asyncio.wait([work])
        raise


def _hits(
    matrix: Matrix,
    scope: SearchScope,
    query: Query,
    gathered: _Gathered,
    annotation_of: Mapping[int, str | None] | None,
) -> list[Hit]:
    compiled = tuple(_compile(matrix, scope, item, gathered) for item in query.ranks)
    candidates = None
    if annotation_of is not None:
        rows = matrix.rows_of(np.fromiter(annotation_of, np.int64, len(annotation_of)))
        candidates = rows[rows >= 0]
    ranking = rank(matrix, compiled, query.unit, candidates, query.offset + query.limit)
    return _page(matrix, query, ranking, annotation_of or {})


def _page(matrix: Matrix, query: Query, ranking: Ranking, annotation_of: Mapping[int, str | None]) -> list[Hit]:
    rows = ranking.rows[query.offset :]
    scores = to_score(ranking.log_scores[query.offset :])
    area_ids, input_numbers = matrix.area_ids[rows].tolist(), matrix.input_numbers[rows].tolist()
    return [
        Hit(score=score, input_number=number, area_id=area_id, annotation_id=annotation_of.get(area_id))
        for score, number, area_id in zip(scores.tolist(), input_numbers, area_ids, strict=True)
        if score >= query.min_value
    ]


def _compile(matrix: Matrix, scope: SearchScope, item: Rank, gathered: _Gathered) -> CompiledRank:
    return CompiledRank(
        terms=tuple(_compile_term(matrix, scope, term, gathered) for term in item.terms), negate=item.negate
    )


def _compile_term(matrix: Matrix, scope: SearchScope, term: Term, gathered: _Gathered) -> CompiledTerm:
    if isinstance(term, ConceptTerm):
        alternatives = tuple(
            (_concept_direction(matrix, scope.tagger, ids, gathered.labels[ids]), gathered.labels[ids])
            for ids in gathered.concepts[term.concept]
        )
        return CompiledTerm(alternatives=alternatives, value=term.value)
    return CompiledTerm(alternatives=((Direction(vector=_similarity(matrix, term, gathered)), NO_LABELS),))


def _concept_direction(matrix: Matrix, tagger: Tagger | None, ids: tuple[str, ...], labels: Labels) -> Direction:
    """The tagger's row, else the mean of the concept's positives, else nothing at all (design, "which p")."""
    rows_of_tagger = (tagger.row(concept_id) for concept_id in ids) if tagger else ()
    row = next((row for row in rows_of_tagger if row is not None), None)
    if row is not None:
        return Direction(vector=row.direction.astype(np.float64), link=Link.SIGMOID, scale=row.scale, bias=row.bias)
    positives = matrix.rows_of(labels.area_ids[labels.values >= 0.5])
    positives = positives[positives >= 0]
    return Direction(vector=unit(matrix.vectors(positives).mean(axis=0)) if len(positives) else None)


def _similarity(matrix: Matrix, term: Term, gathered: _Gathered) -> Array:
    if isinstance(term, ImageTerm):
        vector = gathered.images[term].astype(np.float64)
        what = "The query image"
    elif isinstance(term, InputTerm):
        rows = np.flatnonzero(matrix.input_numbers == gathered.inputs[term])
        if len(rows) == 0:
            raise SearchNotIndexed(f"Input {term.input_id!r} has no vectors to rank by.")
        vector = matrix.vectors(rows).mean(axis=0)
        what = f"The mean of input {term.input_id!r}"
    elif isinstance(term, VectorTerm):
        vector = _mean_of(term, matrix.dims)
        what = "The mean of the embeddings"
    else:
        raise AssertionError(f"{type(term).__name__} is refused before")
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
