"""What a node of a workflow does: looks by a network, finds regions, or changes what other nodes say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.eye import Eye
from sightrank.vision.operators import NodeData, Said, cropped, found, found_in_parts, surest
from sightrank.vision.sight import Sight

Vectors = NDArray[np.float32]
#: Regions in which a detector behind another one looks: as many as a detector finds.
MOST_PARTS: Final = 20


class Step(Protocol):
    """``given`` is what the node's inputs say, None where it sees the input itself."""

    async def run(self, given: NodeData | None, sight: Sight) -> NodeData: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looks:
    """Sees the whole picture, or each region it is given, by the eye's encoder, and ``says`` what the vectors [n, dims]
    mean; ``aside``: in a thread, where saying it takes long.
    """

    eye: Eye
    says: Callable[[Vectors], Sequence[Said]]
    aside: bool = False

    async def run(self, given: NodeData | None, sight: Sight) -> NodeData:
        if given is None or given.regions is None:
            (whole,) = await self._said(await sight.vectors(self.eye, [None]))
            return NodeData(whole=whole)
        vectors = await sight.vectors(self.eye, [region.seen_in for region in given.regions])
        said = await self._said(vectors)
        return NodeData(
            regions=tuple(replace(region, said=one) for region, one in zip(given.regions, said, strict=True))
        )

    async def _said(self, vectors: Vectors) -> Sequence[Said]:
        return await asyncio.to_thread(self.says, vectors) if self.aside else self.says(vectors)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Finds:
    """Finds regions by the eye's detector, in the whole picture or in the surest of the regions it is given."""

    eye: Eye

    async def run(self, given: NodeData | None, sight: Sight) -> NodeData:
        if given is None or given.regions is None:
            (whole,) = await sight.detections(self.eye, [None])
            return found(whole)
        parts = [region.seen_in for region in surest(given.regions, MOST_PARTS)]
        return found_in_parts(await sight.detections(self.eye, parts))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Changes:
    """Makes something else of what it is given (``vision.operators``)."""

    change: Callable[[NodeData], NodeData]

    async def run(self, given: NodeData | None, sight: Sight) -> NodeData:
        return self.change(given or NodeData())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crops:
    """Has regions looked at with ``margin`` of their height and width more on each side."""

    margin: float

    async def run(self, given: NodeData | None, sight: Sight) -> NodeData:
        return cropped(given or NodeData(), self.margin)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Writes:
    """Gives on what it is given. At ingest that is written as an annotation with this status, in this user's name (''
    is the app's owner); a prediction writes nothing.
    """

    status: int
    user_id: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)

    async def run(self, given: NodeData | None, sight: Sight) -> NodeData:
        return given or NodeData()
