"""Runs a parsed search: names to ids, ranks to directions, filters to candidates, scores to hits.

resolve names, look at query images  ->  plan  ->  candidates (SQL), or none yet  ->  ranker  ->  hits (SQL, if not yet)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sightrank.errors import (
    AppError,
    DoesNotExist,
    SearchInvalid,
    SearchNotIndexed,
    SearchPredictionFailed,
    WorkflowNeedsModel,
    quoted,
)
from sightrank.search import candidates, sql, suggest
from sightrank.search.candidates import CandidateCache, Candidates
from sightrank.search.compile import Gathered, compile_ranks
from sightrank.search.compiled import CompiledRank
from sightrank.search.concepts import ConceptBook, Meaning
from sightrank.search.evidence import EvidenceBook
from sightrank.search.follow import Matrices
from sightrank.search.names import Meanings, NameBook
from sightrank.search.plan import Plan, candidate_bound, look_further, may_rank_first, plan
from sightrank.search.query import (
    ConceptCondition,
    ConceptName,
    ConceptTerm,
    ImageTerm,
    InputTerm,
    Query,
    TextTerm,
    Unit,
    conditions,
)
from sightrank.search.ranker import Ranked, Ranker
from sightrank.search.scope import SearchScope
from sightrank.search.score import Array, to_score
from sightrank.search.versions import NO_VERSIONS, Versions
from sightrank.store import queries, vectors
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.vision.eye import Eye

_SQL = queries.load("search")
_T = TypeVar("_T")

#: Turns a query image (url or bytes) into its unit vector; the bucket is of the app whose hosted URLs may be read.
Look = Callable[[int, Eye, ImageTerm], Awaitable[NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """One hit. ``annotation_id`` is None when the annotation that speaks for ``area_id`` is wanted; ``area_id`` is None
    for hits of an unranked search."""

    score: float
    input_number: int
    area_id: int | None
    annotation_id: str | None


class SearchEngine:
    """Searches over all apps of one database. ``forced``: the plan of searches with filters and ranks, for tests."""

    def __init__(
        self,
        database: Database,
        matrices: Matrices,
        concepts: ConceptBook,
        look: Look,
        *,
        forced: Plan | None = None,
    ) -> None:
        self._database = database
        self._matrices = matrices
        self._names = NameBook(database, concepts)
        self._evidence = EvidenceBook(database, matrices)
        self._look = look
        self._forced = forced
        self._candidates = CandidateCache()

    def seen(self, scope: SearchScope, query: Query) -> Versions | None:
        """Versions as of which ``run`` can rank with what this process holds already; None where the query needs the
        database anyway.
        """
        versions = self._matrices.seen(scope.bucket)
        if versions is None or query.as_of is not None or not query.ranks:
            return None
        if not self._matrices.are_likely_current(scope.bucket):
            return None
        if query.filters:
            meanings = self._names.known(scope.bucket, scope.default_language, _names(query), versions)
            if meanings is None or self._forced is not None:
                return None
            key = candidates.key_of(query, sql.FilterScope(bucket=scope.bucket, concepts=meanings))
            if self._candidates.get(key, versions) is None:
                return None
        return versions

    async def run(self, scope: SearchScope, query: Query, versions: Versions | None = None) -> list[Hit]:
        """One page of hits, as of ``versions`` or later; without them, as of now.

        Raises SearchInvalid, SearchNotIndexed, SearchPredictionFailed, WorkflowNeedsModel or DoesNotExist.
        """
        if query.suggests:
            return await self._suggestions(scope, query, versions)
        return await self._hits(scope, query, versions)

    async def _suggestions(self, scope: SearchScope, query: Query, versions: Versions | None) -> list[Hit]:
        """The page of what to label next."""
        found = await self._hits(scope, suggest.widened(query), versions)
        scores = suggest.uncertainty(np.array([hit.score for hit in found]))
        uncertain = [
            replace(hit, score=score)
            for hit, score in zip(found, scores.tolist(), strict=True)
            if hit.score > 0 and score >= query.min_value
        ]
        assert scope.table is not None, "who ranks has vectors"
        pool, pooled = await self._with_vectors(scope.table, scope.bucket, uncertain[: suggest.POOL])
        falling = np.array([hit.score for hit in pool])
        order = await asyncio.to_thread(suggest.diverse, falling, pooled, _wanted(query))
        first = [pool[place] for place in order.tolist()]
        return [*first, *uncertain[suggest.POOL :]][query.offset : _wanted(query)]

    async def _with_vectors(self, table: EmbedderTable, bucket: int, hits: list[Hit]) -> tuple[list[Hit], Array]:
        """Those of these hits whose areas are still there, and their vectors."""
        area_ids = np.array([hit.area_id for hit in hits], np.int64)
        known: dict[int, NDArray[np.float16]] = {}
        async with (
            vectors.snapshot(self._database) as connection,
            aclosing(vectors.of_areas(connection, table, bucket, area_ids)) as parts,
        ):
            async for part in parts:
                known.update(zip(part.area_ids.tolist(), part.vectors, strict=True))
        there = [hit for hit in hits if hit.area_id in known]
        rows = [known[hit.area_id] for hit in there if hit.area_id is not None]
        return there, np.array(rows, np.float64).reshape(len(rows), table.dims)

    async def _hits(self, scope: SearchScope, query: Query, versions: Versions | None) -> list[Hit]:
        concepts = await self._resolve(scope, query, versions)
        filters = sql.FilterScope(bucket=scope.bucket, concepts=concepts)
        if plan(query) is Plan.FILTER:
            rows = await self._database.rows(sql.page(query, filters))
            return [Hit(score=1.0, input_number=number, area_id=None, annotation_id=name) for number, name in rows]
        if scope.lacks:
            raise WorkflowNeedsModel(f"{scope.lacks} Filters work without it.")
        if scope.table is None or scope.eye is None:
            raise SearchInvalid("The base workflow of this app is Empty, which does not support search by rank.")
        _check_concepts(query, concepts)
        images = {term: await self._image(scope.bucket, scope.eye, term) for term in _terms(query, ImageTerm)}
        numbers = {term: await self._input_number(scope.bucket, term) for term in _terms(query, InputTerm)}
        among = await self._few_candidates(scope.table, query, filters, versions) if query.narrows else None
        if among is not None:
            # The ranker then knows at least the areas that the candidates name.
            versions = among.versions
        versions = versions or await self._matrices.versions(scope.bucket)
        ranker = await self._matrices.ranker(scope.table, scope.bucket, versions)
        gathered = Gathered(
            concepts=concepts,
            evidence=await self._evidence.read(scope, query, concepts, ranker, versions),
            images=images,
            texts={term: await scope.eye.read(term.raw) for term in _terms(query, TextTerm)},
            inputs={term: await _mean_of_input(ranker, term, number) for term, number in numbers.items()},
        )
        ranks = compile_ranks(query, gathered, ranker.dims)
        if query.suggests:
            ranks = suggest.by_uncertainty(ranks)
        if not query.narrows:
            return _page(query, await ranker.best(ranks, query.unit, _wanted(query)))
        if among is None:
            hits = await self._rank_then_filter(query, filters, ranker, ranks)
            if hits is not None:
                return hits
            among = await self._candidates_of(query, filters)
            self._candidates.note_few(candidates.key_of(query, filters))
            self._candidates.put(candidates.key_of(query, filters), among)
        return await _rank_among(query, among, ranker, ranks)

    async def count(self, scope: SearchScope, query: Query) -> int:
        """How many inputs, or annotations, the filters of a search leave."""
        concepts = await self._resolve(scope, query, None)
        row = await self._database.row(sql.count(query, sql.FilterScope(bucket=scope.bucket, concepts=concepts)))
        return int(row[0]) if row else 0

    # What the database says ------------------------------------------------------------------------------------------

    async def _resolve(self, scope: SearchScope, query: Query, versions: Versions | None) -> Meanings:
        bucket, language = scope.bucket, scope.default_language
        # Filters are looked up alone, because the same filters come again with other ranks.
        filtered, ranked = _names(query), {term.concept for term in _terms(query, ConceptTerm)}
        found: dict[ConceptName, Meaning] = {}
        for names in (filtered, ranked - filtered):
            known = self._names.known(bucket, language, names, versions)
            seen = self._matrices.seen(bucket)
            found.update(known if known is not None else await self._names.read(bucket, language, names, seen))
        return found

    async def _image(self, bucket: int, eye: Eye, term: ImageTerm) -> NDArray[np.float32]:
        try:
            return await self._look(term.bucket or bucket, eye, term)
        except AppError as error:
            if error.code in (30002, 30105, 30106, 39996):
                raise SearchPredictionFailed(f"The query image could not be used: {error}") from error
            raise

    async def _input_number(self, bucket: int, term: InputTerm) -> int:
        row = await self._database.row(_SQL["input_to_rank_by"], {"bucket": bucket, "id": term.input_id})
        if row is None:
            raise DoesNotExist(f"There is no input {quoted(term.input_id)} in this app to rank by.")
        if row[1] != sql.INDEXED:
            raise SearchNotIndexed(
                f"Input {term.input_id!r} has status {row[1]}; rank by it once it has {sql.INDEXED}."
            )
        return int(row[0])

    # Filters and ranks -----------------------------------------------------------------------------------------------

    async def _few_candidates(
        self, table: EmbedderTable, query: Query, filters: sql.FilterScope, versions: Versions | None
    ) -> Candidates | None:
        """All that the filters leave, as of ``versions`` or now; None where that is more than should go first."""
        key = candidates.key_of(query, filters)
        held = self._candidates.get(key, versions) if versions is not None else None
        if held is not None:
            return held
        if not may_rank_first(query):
            found = await self._candidates_of(query, filters)
            self._candidates.put(key, found)
            return found
        chosen = self._forced or plan(query, has_many=self._candidates.share_of_many(key) is not None)
        if chosen is Plan.RANK_THEN_FILTER:
            return None
        if self._forced is not None:
            return await self._candidates_of(query, filters)
        bound = candidate_bound(query, self._matrices.rows(table, filters.bucket))
        found = await self._candidates_of(query, filters, at_most=bound + 1)
        if len(found.area_ids) > bound:
            self._candidates.note_many(key, 1.0)
            return None
        self._candidates.note_few(key)
        self._candidates.put(key, found)
        return found

    async def _candidates_of(self, query: Query, filters: sql.FilterScope, at_most: int | None = None) -> Candidates:
        found = await candidates.read(self._database, query, filters, at_most=at_most)
        if found is None:
            self._matrices.forget(filters.bucket)
            return Candidates(versions=NO_VERSIONS, area_ids=np.empty(0, np.int64), annotation_ids=None)
        self._matrices.note(filters.bucket, found.versions)
        return found

    async def _rank_then_filter(
        self, query: Query, filters: sql.FilterScope, ranker: Ranker, ranks: tuple[CompiledRank, ...]
    ) -> list[Hit] | None:
        """None when so few of the first hits survive that the filter had better go first."""
        survivors: dict[int, str | None] = {}
        checked: set[int] = set()
        wanted = _wanted(query)
        looked_at = survived = 0
        key = candidates.key_of(query, filters)
        usual_share = self._candidates.share_of_many(key) or 1.0
        while True:
            further = look_further(wanted=wanted, looked_at=looked_at, survived=survived, usual_share=usual_share)
            if further is None:
                if self._forced is None:
                    return None
                further = 4 * looked_at
            ranked = await ranker.best(ranks, query.unit, further)
            numbers = (ranked.area_ids if query.unit is Unit.ANNOTATION else ranked.input_numbers).tolist()
            # What was committed since the last look may have moved hits: only whom nobody asked about is asked about.
            fresh = [number for number in numbers if number not in checked]
            checked.update(fresh)
            for area_id, input_number, annotation_id in await self._database.rows(sql.surviving(query, filters, fresh)):
                survivors[area_id if query.unit is Unit.ANNOTATION else input_number] = annotation_id
            kept = np.flatnonzero([number in survivors for number in numbers])
            looked_at, survived = len(numbers), len(kept)
            if survived >= wanted or looked_at < further or _ends_below(query, ranked):
                self._candidates.note_many(key, (survived + 1) / (looked_at + 1))
                page = kept[query.offset : wanted]
                return _page(query, _part(ranked, kept[:wanted]), [survivors[numbers[i]] for i in page.tolist()])


# Pure from here on --------------------------------------------------------------------------------


def _terms(query: Query, kind: type[_T]) -> list[_T]:
    return [term for item in query.ranks for term in item.terms if isinstance(term, kind)]


def _names(query: Query) -> set[ConceptName]:
    """The concepts that filters name."""
    return {condition.concept for condition in conditions(query) if isinstance(condition, ConceptCondition)}


def _wanted(query: Query) -> int:
    return max(query.offset + query.limit, 1)


def _ends_below(query: Query, ranked: Ranked) -> bool:
    """Whether whatever comes after these hits scores too little."""
    return len(ranked.log_scores) > 0 and float(to_score(ranked.log_scores[-1:])[0]) < query.min_value


def _check_concepts(query: Query, concepts: Meanings) -> None:
    for concept_term in _terms(query, ConceptTerm):
        if not concepts[concept_term.concept]:
            raise SearchInvalid(
                f"No concept with {concept_term.concept.describe()} is known to this app or to clarifai/main;"
                " PostConceptsSearches finds the names there are."
            )


async def _mean_of_input(ranker: Ranker, term: InputTerm, number: int) -> Array:
    mean = await ranker.mean_of_input(number)
    if mean is None:
        raise SearchNotIndexed(f"Input {term.input_id!r} has no vectors to rank by.")
    return mean


async def _rank_among(query: Query, among: Candidates, ranker: Ranker, ranks: tuple[CompiledRank, ...]) -> list[Hit]:
    if len(among.area_ids) == 0:
        return []
    ranked = await ranker.best_among(ranks, query.unit, _wanted(query), among.area_ids)
    return _page(query, ranked, among.annotations_of(ranked.area_ids[query.offset :]))


def _part(ranked: Ranked, places: NDArray[np.intp]) -> Ranked:
    return Ranked(
        area_ids=ranked.area_ids[places],
        input_numbers=ranked.input_numbers[places],
        log_scores=ranked.log_scores[places],
    )


def _page(query: Query, ranked: Ranked, annotation_ids: Sequence[str | None] | None = None) -> list[Hit]:
    """The hits from the page's offset on; ``annotation_ids`` are theirs."""
    page = _part(ranked, np.arange(min(query.offset, len(ranked.area_ids)), len(ranked.area_ids)))
    return [
        Hit(score=score, input_number=number, area_id=area_id, annotation_id=annotation_id)
        for score, number, area_id, annotation_id in zip(
            to_score(page.log_scores).tolist(),
            page.input_numbers.tolist(),
            page.area_ids.tolist(),
            annotation_ids or [None] * len(page.area_ids),
            strict=True,
        )
        if score >= query.min_value
    ]
