"""Whether probabilities keep to the hierarchy: a dog is an animal, so `animal` should not be less likely than `dog`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training import quality
from training.quality import Judged
from training.report import Report

WELL_ABOVE = 0.1
"""By how much a concept's probability must exceed that of the one above it to count as a contradiction."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Hierarchy:
    """Columns of a tagger: pairs of a concept and the one directly above it, and all columns below each."""

    pairs: tuple[tuple[int, int], ...]
    below: Mapping[int, frozenset[int]]

    @classmethod
    def read(cls, folder: Path, ids: Sequence[str]) -> Hierarchy:
        entries = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
        place = {identity: column for column, identity in enumerate(ids)}
        above = {
            place[entry["id"]]: [place[each] for each in entry["hypernyms"] if each in place]
            for entry in entries
            if entry["id"] in place
        }
        below: dict[int, set[int]] = {}
        for column in above:
            left = [column]
            while left:
                for wider in above[left.pop()]:
                    if column not in below.setdefault(wider, set()):
                        below[wider].add(column)
                        left.append(wider)
        pairs = tuple((column, wider) for column, widers in above.items() for wider in widers)
        return cls(pairs, {wider: frozenset(columns) for wider, columns in below.items()})

    def raised(self, probabilities: Floats) -> Floats:
        """Every concept at least as likely as the likeliest below it."""
        found = probabilities.copy()
        for wider, columns in self.below.items():
            found[:, wider] = np.maximum(found[:, wider], probabilities[:, sorted(columns)].max(axis=1))
        return found

    def general(self, judged: Judged) -> float:
        """Mean average precision of the concepts that have others below them."""
        measures = judged.measures(quality.LEAST_POSITIVES)
        return quality.means({column: each for column, each in measures.items() if column in self.below})[0]


def contradictions(report: Report, hierarchy: Hierarchy, sets: Mapping[str, Judged]) -> None:
    """How often a concept is much likelier than the one above it, and what raising that one would gain."""
    narrow, wide = np.array(hierarchy.pairs).T
    rows = []
    for title, judged in sets.items():
        p = judged.probabilities
        over, likely = p[:, narrow] > p[:, wide] + WELL_ABOVE, p[:, narrow] > 0.5
        lifted = replace(judged, probabilities=hierarchy.raised(p))
        rows.append([title, f"{over.mean():.2%}", f"{(over & likely).sum()} of {likely.sum()}",
                     f"{hierarchy.general(judged):.3f}", f"{hierarchy.general(lifted):.3f}"])  # fmt: skip
    report.say(
        f"A concept more than {WELL_ABOVE} likelier than the more general one above it ({len(hierarchy.pairs)} pairs),"
        " and mean average\nprecision of the general ones as they are and raised to the likeliest below them:\n"
    )
    head = ["photos", "of all pairs and photos", "where the concept is likelier than not", "as they are", "raised"]
    report.table(head, rows)
