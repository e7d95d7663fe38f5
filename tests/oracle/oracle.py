"""The search laws once more, said plainly: loops over records, float64, no SQL, no index, no logarithm.

It reads the Search message itself (api-spec 4 and the design's score laws), so that a misreading in ``search.parse``
shows as well. What the server answers is compared with this by ``comparison``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from clarifai_grpc.grpc.api import resources_pb2
from tests.oracle.filters import Context, Filters, Refused, Sieve
from tests.oracle.laws import Law, Laws, geometric_mean
from tests.oracle.names import Naming
from tests.oracle.records import App, Area, Input, Note, Vector

from sightrank.search.query import Unit
from sightrank.vision.tagger import Tagger

T = TypeVar("T")
ALGORITHMS = ("", "nearest_neighbor", "brute_force", "avg_concept_brute_force")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A hit as it must be. Hits with equal ``likeness`` must follow ``since``: nothing in a rank tells them apart."""

    input_number: int
    area_id: int | None
    annotation_id: str | None
    score: float
    since: tuple[int, Hashable]
    likeness: Hashable = None
    #: Areas that stand for the hit as well as ``area_id`` does.
    as_good: frozenset[int] = frozenset()

    @property
    def key(self) -> tuple[int, int | None, str | None]:
        return self.input_number, self.area_id, self.annotation_id


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A search as it was understood."""

    sieves: list[Sieve]
    laws: list[Law]
    as_of_us: int | None


class Oracle:
    """Answers searches over one app."""

    def __init__(
        self,
        app: App,
        tagger: Tagger,
        images: Mapping[str | bytes, Vector],
        *,
        versions: Iterable[str] = (),
        detector_id: str = "",
        detected: Iterable[str] = (),
    ) -> None:
        naming = Naming(app)
        self.app = app
        self.laws = Laws(app, naming, tagger, images, frozenset(versions), detector_id, frozenset(detected))
        self.filters = Filters(app, naming, app.user_id)

    def answer(self, search: resources_pb2.Search, unit: Unit) -> list[Expected]:
        """All hits in order, before ``min_value`` and pages. Raises Refused."""
        asked = self._understand(search)
        hits = self._annotation_hits(asked) if unit is Unit.ANNOTATION else self._input_hits(asked)
        return sorted(hits, key=lambda hit: (-hit.score, hit.since))

    def count(self, search: resources_pb2.Search) -> int:
        """How many inputs the filters leave. Raises Refused."""
        asked = self._understand(search)
        return sum(self._survives(item, asked) for item in self._inputs(asked))

    # Reading the message -------------------------------------------------------------------------------------------

    def _understand(self, search: resources_pb2.Search) -> _Asked:
        query, language = search.query, search.query.language
        as_of_us = search.as_of.ToNanoseconds() // 1000 if search.HasField("as_of") else None
        sieves: list[Sieve | None] = []
        laws: list[Law | None] = []
        codes: set[int] = set()

        def collect(make: Callable[[], T], into: list[T]) -> None:
            try:
                into.append(make())
            except Refused as refusal:
                codes.update(refusal.codes)

        for one in query.ands:
            for read in (self.filters.of_legacy_input, self.filters.of_legacy_annotation):
                collect(lambda read=read, one=one: read(one, language), sieves)  # type: ignore[misc]
        for item in query.filters:
            collect(lambda item=item: self.filters.of_filter(item, language), sieves)  # type: ignore[misc]
        for rank in (*map(_rank_of, query.ands), *query.ranks):
            collect(lambda rank=rank: self.laws.of_rank(rank, language, as_of_us), laws)  # type: ignore[misc]
        if not 0.0 <= search.min_value <= 1.0 or search.algorithm not in ALGORITHMS:
            codes.add(40002)
        if codes:
            raise Refused(*codes)
        return _Asked(sieves=[sieve for sieve in sieves if sieve], laws=[law for law in laws if law], as_of_us=as_of_us)

    # Units ---------------------------------------------------------------------------------------------------------

    def _annotation_hits(self, asked: _Asked) -> Iterator[Expected]:
        """One and the same annotation satisfies every filter; ranked, each area is one hit."""
        opened = any(sieve.opens for sieve in asked.sieves)
        for item in self._inputs(asked):
            surviving = [
                context.note
                for context in _contexts(item, asked.as_of_us)
                if (opened or not context.note.by_model)
                and all(sieve.says(context) != sieve.negate for sieve in asked.sieves)
            ]
            if not asked.laws:
                yield from (_unranked(item, note, note.order) for note in surviving)
                continue
            # Filters that choose inputs leave every area of theirs, whoever spoke of it.
            of_inputs = all(sieve.of_inputs for sieve in asked.sieves)
            if of_inputs and not self._survives(item, asked):
                continue
            for area in item.embedded_at(asked.as_of_us):
                speaking = [note.annotation.id for note in surviving if item.area_of(note) is area]
                if speaking or of_inputs:
                    yield Expected(
                        input_number=item.number,
                        area_id=area.id,
                        annotation_id=None if of_inputs else speaking[0],
                        score=_score(asked.laws, [area]),
                        since=(area.created_us, area.id),
                        likeness=tuple(law.likeness([area]) for law in asked.laws),
                    )

    def _input_hits(self, asked: _Asked) -> Iterator[Expected]:
        for item in self._inputs(asked):
            if not self._survives(item, asked):
                continue
            areas = item.embedded_at(asked.as_of_us)
            if not asked.laws:
                yield _unranked(item, self._witness(item, asked), (item.created_us, item.id))
            elif areas:
                alone = {area.id: _score(asked.laws, [area]) for area in areas}
                best = max(alone.values())
                yield Expected(
                    input_number=item.number,
                    area_id=min(area_id for area_id, score in alone.items() if score == best),
                    as_good=frozenset(area_id for area_id, score in alone.items() if score > best - 1e-5),
                    annotation_id=None,
                    score=_score(asked.laws, areas),
                    since=(item.created_us, item.id),
                    likeness=tuple(law.likeness(areas) for law in asked.laws),
                )

    def _inputs(self, asked: _Asked) -> list[Input]:
        """What came later was not there."""
        as_of_us = asked.as_of_us
        return [item for item in self.app.inputs if as_of_us is None or item.created_us <= as_of_us]

    def _survives(self, item: Input, asked: _Asked) -> bool:
        """Every filter is satisfied by some annotation of the input, or, negated, by none."""
        contexts = _contexts(item, asked.as_of_us)
        return all(_finds(sieve, contexts) != sieve.negate for sieve in asked.sieves)

    def _witness(self, item: Input, asked: _Asked) -> Note | None:
        """The first annotation that a filter asked for, else the first."""
        contexts = _contexts(item, asked.as_of_us)
        wanted = [sieve for sieve in asked.sieves if not sieve.negate]
        for context in contexts:
            if any(_finds(sieve, [context]) for sieve in wanted):
                return context.note
        return next((context.note for context in contexts if not context.note.by_model), None)


def _finds(sieve: Sieve, contexts: list[Context]) -> bool:
    return any(sieve.says(context) for context in contexts if sieve.opens or not context.note.by_model)


def _contexts(item: Input, as_of_us: int | None) -> list[Context]:
    notes = item.notes(as_of_us)
    input_level = next((note for note in notes if note.annotation.input_level), None)
    return [Context(item, note, input_level) for note in notes]


def _unranked(item: Input, note: Note | None, since: tuple[int, Hashable]) -> Expected:
    return Expected(
        input_number=item.number,
        area_id=None,
        annotation_id=note.annotation.id if note else None,
        score=1.0,
        since=since,
    )


def _score(laws: list[Law], areas: list[Area]) -> float:
    return geometric_mean([law.score(areas) for law in laws])


def _rank_of(one: resources_pb2.And) -> resources_pb2.Rank:
    """What a legacy And ranks by: its output."""
    output = one.output
    rank = resources_pb2.Rank(negate=one.negate)
    if output.data.concepts:
        rank.annotation.data.concepts.extend(output.data.concepts)
    if output.input.data.image.ListFields():
        rank.annotation.data.image.CopyFrom(output.input.data.image)
    if output.input.id:
        rank.annotation.input_id = output.input.id
    return rank
