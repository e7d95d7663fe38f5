"""How far a change of an app's base workflow is, for people to read."""

from __future__ import annotations

from dataclasses import dataclass

from sightrank.ingest.reindex_queue import State
from sightrank.store import queries
from sightrank.store.database import Database

_SQL = queries.load("reindex")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A change under way, or one that failed.

    Counts are images and videos: ``done`` of ``total`` are indexed for ``workflow_id``, and ``failed`` could not be.
    """

    workflow_id: str
    state: State
    failure: str
    total: int
    done: int
    failed: int

    @property
    def left(self) -> int:
        """Images that have not had their turn."""
        return max(self.total - self.done - self.failed, 0)

    def text(self) -> str:
        """What to tell whoever asks for the app."""
        if self.state is State.FAILED:
            return (
                f"The base workflow stays as it is: {self.failure}. Delete these inputs, or mend what is wrong, and"
                f" patch the app to {self.workflow_id} again; what is indexed is kept."
            )
        return (
            f"The base workflow is being changed to {self.workflow_id}: {self.done} of {self.total} inputs are indexed"
            " for it. Until all are, the app is searched by the old one."
        )


async def progress_of(database: Database, bucket: int) -> Progress | None:
    """None where no other workflow is wanted."""
    row = await database.row(_SQL["progress"], {"bucket": bucket})
    if row is None:
        return None
    workflow_id, state, failure, total, done, failed = row
    return Progress(workflow_id=workflow_id, state=State(state), failure=failure, total=total, done=done, failed=failed)
