"""``sightrank suggest``: asks a running server what to label next with a concept (docs/teaching.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from sightrank.api_client import Access, ApiClient, Hit, input_filter, rank_by_id_or_name
from sightrank.search_command import place

_AT_ONCE = 25  # searches of a call
_AREAS = 100  # of an input, at most
_WIDTH = 120  # of a table that goes into a file
_WORDS = ((0.1, "almost sure that not"), (0.4, "rather not"), (0.6, "undecided"), (0.9, "rather yes"))
_SUREST = "almost sure that yes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """An area to label. ``probability``: of the concept; None when the area has just gone."""

    hit: Hit
    probability: float | None


def run(access: Access, concept: str, *, limit: int) -> None:
    """Prints what to label next. Raises ClientError."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    show(console, concept, asyncio.run(find(access, concept, limit=limit)))


async def find(access: Access, concept: str, *, limit: int) -> list[Suggestion]:
    """What to label next, in that order. Raises ClientError."""
    async with ApiClient(access) as client:
        rank = rank_by_id_or_name(concept)
        found = await client.search([rank], count=limit, algorithm="active_learning")
        likely: dict[tuple[str, str], float] = {}
        for start in range(0, len(found.hits), _AT_ONCE):
            likely.update(await _probabilities(client, rank, found.hits[start : start + _AT_ONCE]))
    return [Suggestion(hit=hit, probability=likely.get((hit.input_id, hit.annotation_id))) for hit in found.hits]


async def _probabilities(client: ApiClient, rank: dict[str, Any], hits: Sequence[Hit]) -> dict[tuple[str, str], float]:
    """How likely the concept is in all areas of these inputs: the score of a suggestion does not tell the side."""
    inputs = dict.fromkeys(hit.input_id for hit in hits)
    searches = [{"query": {"ranks": [rank], "filters": [input_filter(input_id)]}} for input_id in inputs]
    found = await client.searches(searches, count=_AREAS)
    return {(hit.input_id, hit.annotation_id): hit.score for hit in found.hits}


def show(console: Console, concept: str, suggestions: Sequence[Suggestion]) -> None:
    """Prints the suggestions, the most useful first."""
    if not suggestions:
        console.print(f"Nothing is left to label with {concept}: every indexed area has a label of it.", markup=False)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", justify="right")
    table.add_column("input", overflow="fold")
    table.add_column("where")
    table.add_column("probability", justify="right")
    table.add_column("why")
    table.add_column("annotation", overflow="fold", style="dim")
    for number, one in enumerate(suggestions, start=1):
        probability = "" if one.probability is None else f"{one.probability:.3f}"
        cells = (one.hit.input_id, place(one.hit), probability, why(one.probability), one.hit.annotation_id)
        table.add_row(str(number), *(cell.replace("[", r"\[") for cell in cells))
    console.print(table)


def why(probability: float | None) -> str:
    """What a label would settle."""
    if probability is None:
        return "has just changed"
    return next((words for most, words in _WORDS if probability < most), _SUREST)
