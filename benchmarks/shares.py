"""Concepts of the app's own, given to known shares of its inputs, and the filters by them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Share:
    """Every ``every``-th input is labelled with ``id``: those whose serial number leaves ``rest``."""

    id: str
    every: int
    rest: int

    @property
    def percent(self) -> str:
        return f"{100 / self.every:g} %" if self.rest < self.every else "0 %"

    def has(self, count: int) -> NDArray[np.bool_]:
        """Which of the first ``count`` inputs are labelled."""
        chosen: NDArray[np.bool_] = np.arange(count) % self.every == self.rest
        return chosen


#: Everything is a dataset, and so no label: nobody labels every picture with one word.
ALL = Share("bench-all", 1, 0)
HALF, TENTH = Share("bench-half", 2, 0), Share("bench-tenth", 10, 1)
HUNDREDTH, THOUSANDTH = Share("bench-hundredth", 100, 3), Share("bench-thousandth", 1000, 5)
NOTHING = Share("bench-nothing", 1, 1)
LABELS = (HALF, TENTH, HUNDREDTH, THOUSANDTH)
SHARES = (ALL, *LABELS, NOTHING)
#: Names that nobody's picture bears: "this or that" with one of them is a filter that was never asked before.
BLANKS = tuple(f"bench-blank-{number}" for number in range(3000))


def only(share: Share, *others: str) -> resources_pb2.Filter:
    """A filter that leaves this share; ``others`` are alternatives that leave nothing."""
    ids = (share.id, *others)
    if share is ALL:
        return resources_pb2.Filter(input=resources_pb2.Input(dataset_ids=ids))
    concepts = [resources_pb2.Concept(id=concept_id, value=1.0) for concept_id in ids]
    return resources_pb2.Filter(annotation=resources_pb2.Annotation(data=resources_pb2.Data(concepts=concepts)))


def never_asked() -> Callable[[Share], resources_pb2.Filter]:
    """Filters that leave a share, each another one, so that no process can have the answer already."""
    blanks = itertools.cycle(BLANKS)
    return lambda share: only(share, next(blanks))
