"""What the measurements share: one server with two apps, filled when the first of them asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from numpy.typing import NDArray

from benchmarks.areas import PORTION, Models, add_areas, add_model, stored_vectors, unit_vectors
from benchmarks.queries import Searches
from benchmarks.questions import kinds
from benchmarks.server import APP, BESIDE, USER, Client, Server
from benchmarks.waiting import until_ranked_by
from sightrank.search.graph import GRAPH_FROM_AREAS
from sightrank.vision.concept_model import ConceptModel

AREAS = 200_000
_RANKER = "SIGHTRANK_RANKER"


@dataclass(slots=True, kw_only=True)
class Stage:
    """``data`` is the folder with the photographs, ``wanted`` how many areas ``fill`` gives the app, once."""

    data: Path
    server: Server
    wanted: int = AREAS
    models: Models = field(default_factory=Models.built_in)
    areas: int = 0
    beside: int = 0
    _commits: list[tuple[int, int]] = field(default_factory=list)

    def fill(self) -> None:
        """Fills the app, once, and beside it a second one with a quarter as many areas, which no search may meet."""
        if self.areas:
            return
        user = resources_pb2.UserAppIDSet(user_id=USER)
        apps = [resources_pb2.App(id=BESIDE)]
        self.client().call("PostApps", service_pb2.PostAppsRequest(user_app_id=user, apps=apps))
        self.beside = self.wanted // 4
        add_areas(self.server, self.models, BESIDE, 0, self.beside)
        self.add(self.wanted)

    def add(self, count: int) -> None:
        """Adds ``count`` further areas."""
        add_areas(self.server, self.models, APP, self.areas, count)
        self.note(count)

    def teach(self, model_id: str, *, concepts: int, exclusive: bool = False) -> list[str]:
        """A model of the app, trained, whose concepts are as good as chance; their ids."""
        ids = [f"{model_id}-{number}" for number in range(concepts)]
        directions = unit_vectors(concepts, self.models.dims, seed=len(model_id))
        scale, bias = np.full(concepts, 20.0, np.float32), np.full(concepts, -6.0, np.float32)
        add_model(
            self.server, self.models, APP, model_id, ConceptModel(ids, directions, scale, bias, exclusive=exclusive)
        )
        return ids

    def note(self, count: int, *, portion: int = PORTION) -> None:
        """``count`` further areas have been added, in commits of ``portion``."""
        end = self.areas + count
        self._commits += [(first, min(portion, end - first)) for first in range(self.areas, end, portion)]
        self.areas = end

    def vectors(self) -> NDArray[np.float64]:
        """The stored vectors of all areas, in the order of the serial numbers of their inputs."""
        parts = [stored_vectors(first, count, self.models.dims) for first, count in self._commits]
        return np.concatenate(parts).astype(np.float64)

    def use(self, ranker: str = "auto") -> None:
        """Returns when the server has loaded the app and ranks it by ``ranker``; "auto" leaves the choice to it.

        It is started anew only if it has to be: what it builds in the background takes minutes.
        """
        chosen = "graph" if self.areas >= GRAPH_FROM_AREAS else "exact"
        asked = "auto" if ranker == chosen == "graph" else ranker
        if asked != self.server.settings.get(_RANKER, "auto"):
            self.server.restart(**({} if asked == "auto" else {_RANKER: asked}))
        Searches(self.client()).annotations(kinds(self.models)["image"]())()
        until_ranked_by(self.server.database_url(), chosen if ranker == "auto" else ranker)

    def client(self, app_id: str = APP) -> Client:
        return Client(self.server.grpc_port, app_id)
