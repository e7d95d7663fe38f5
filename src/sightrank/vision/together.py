"""Runs of a network that tasks share which work side by side, such as those of the frames of a film.

Each by itself would have the network look at one picture, or a few, which costs nearly as much as a full batch. So what
they want is gathered until all of them wait.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import numpy as np

from sightrank.vision.eye import Eye, Pixels, Vectors
from sightrank.vision.threads import Lane

_RUN = 32  # pictures that are given to a network at a time


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Wish:
    eye: Eye
    pixels: Pixels
    vectors: asyncio.Future[Vectors]


class Together:
    """``tasks`` tasks embed by it; each calls ``leave`` when it will want no more. When one fails, the others have to
    be cancelled, for they wait for it.
    """

    def __init__(self, tasks: int, lane: Lane) -> None:
        self._busy = tasks
        self._lane = lane
        self._wishes: list[_Wish] = []

    async def embed(self, eye: Eye, pixels: Pixels) -> Vectors:
        """As ``Eye.embed``."""
        wish = _Wish(eye=eye, pixels=pixels, vectors=asyncio.get_running_loop().create_future())
        self._wishes.append(wish)
        await self.leave()
        return await wish.vectors

    async def leave(self) -> None:
        """The task stops being busy, to wait or for good; the last one to do so has all wishes fulfilled."""
        self._busy -= 1
        if self._busy:
            return
        wishes, self._wishes = self._wishes, []
        self._busy = len(wishes)
        for encoder in dict.fromkeys(wish.eye.encoder for wish in wishes):
            await self._fulfil([wish for wish in wishes if wish.eye.encoder is encoder])

    async def _fulfil(self, wishes: list[_Wish]) -> None:
        eye, pictures = wishes[0].eye, [picture for wish in wishes for picture in wish.pixels]
        runs = [
            await eye.embed(np.stack(pictures[start : start + _RUN]), self._lane)
            for start in range(0, len(pictures), _RUN)
        ]
        ends = np.cumsum([len(wish.pixels) for wish in wishes])
        for wish, vectors in zip(wishes, np.split(np.concatenate(runs), ends[:-1]), strict=True):
            if not wish.vectors.done():
                wish.vectors.set_result(vectors)
