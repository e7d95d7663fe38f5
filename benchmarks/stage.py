"""What the measurements share: one server with 50,000 areas, filled when the first of them asks for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.areas import AREAS, Models, add_areas
from benchmarks.server import Client, Server


@dataclass(slots=True, kw_only=True)
class Stage:
    """``data`` is the folder with the photographs. The server has no areas before ``fill``."""

    data: Path
    server: Server
    models: Models = field(default_factory=Models.built_in)
    areas: int = 0

    def fill(self) -> None:
        """Brings the app to 50,000 areas, once."""
        if not self.areas:
            self.add(AREAS)

    def add(self, count: int) -> None:
        """Commits ``count`` further areas."""
        add_areas(self.server, self.models, self.areas, count)
        self.areas += count

    def client(self) -> Client:
        return Client(self.server)
