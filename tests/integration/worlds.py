"""A bootstrapped server without a wire, for tests: ``Worlds.run`` opens one, ``World.call`` makes an rpc."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightrank.api.apps import Apps
from sightrank.api.base_workflows import BaseWorkflows
from sightrank.api.bootstrap import Bootstrap, bootstrap
from sightrank.api.catalogue import EMPTY_WORKFLOW, Catalogue, WorkflowCard, missing_workflows
from sightrank.api.concept_languages import ConceptLanguages
from sightrank.api.concept_search import ConceptSearch
from sightrank.api.concepts import Concepts
from sightrank.api.evaluations import Evaluations
from sightrank.api.identity import Identity
from sightrank.api.keys import Keys
from sightrank.api.model_contents import ModelContents
from sightrank.api.model_edits import ModelEdits
from sightrank.api.model_ids import ModelIds
from sightrank.api.model_records import ModelRecords
from sightrank.api.model_tags import ModelTags
from sightrank.api.model_versions import ModelVersions
from sightrank.api.model_writer import ModelWriter
from sightrank.api.models import Models
from sightrank.api.records import Records
from sightrank.api.users import Users
from sightrank.api.workflow_changes import WorkflowChanges
from sightrank.api.workflow_nodes import NodeReader
from sightrank.api.workflow_versions import WorkflowVersions
from sightrank.api.workflows import Workflows
from sightrank.ingest.media import HostedUrls
from sightrank.ingest.renamed_models import RenamedModels
from sightrank.installed import general_cards, general_workflow
from sightrank.search.concepts import ConceptBook
from sightrank.search.fits import Fits
from sightrank.settings import Settings
from sightrank.store.clock import Clock
from sightrank.store.database import Database
from sightrank.teach.workbench import Workbench
from sightrank.vision.vocabulary import Term, Vocabulary

PAT = "a" * 32
API_KEY = "b" * 32


def small_vocabulary() -> Vocabulary:
    def term(id: str, hypernyms: tuple[str, ...] = (), **names: str) -> Term:
        return Term(id, {language.replace("_", "-"): name for language, name in names.items()}, hypernyms, "")

    return Vocabulary(
        [
            term("ai_SzsXMB1w", en="animal", ja="動物"),
            term("ai_8S2Vq3cR", ("ai_SzsXMB1w",), en="dog", ja="犬", de="Hund", zh="狗"),
            term("ai_l8TKp2h5", en="people", zh="人", ja="人"),
            term("ai_crowd000", ("ai_l8TKp2h5",), en="crowd", zh="人群", ja="群衆"),
            term("ai_palm0000", en="palm"),
            term("ai_water000", en="water", de="Wasser"),
            term("ai_wfall000", ("ai_water000",), en="waterfall", de="Wasserfall"),
        ]
    )


def small_catalogue() -> Catalogue:
    vocabulary = small_vocabulary()
    general = general_workflow(*general_cards("v1", 8, vocabulary))
    empty = WorkflowCard(id=EMPTY_WORKFLOW, description="Runs no model.")
    return Catalogue((general, empty, *missing_workflows([general])), vocabulary)


@dataclass
class World:
    """A bootstrapped server: everything behind the wire."""

    database: Database
    identity: Identity
    catalogue: Catalogue
    book: ConceptBook
    settings: Settings
    first: Bootstrap
    pat: str = PAT
    api_key: str = API_KEY
    deleted: list[int] = field(default_factory=list)
    to_train: asyncio.Event = field(default_factory=asyncio.Event)
    to_evaluate: asyncio.Event = field(default_factory=asyncio.Event)
    handlers: dict[str, Any] = field(default_factory=dict)

    async def call(self, rpc: str, request: Any, *, key: str | None = PAT) -> Any:
        """One rpc as the wire makes it, without the envelope."""
        call = await self.identity.authenticate(rpc, key, request, "test")
        return await self.handlers[rpc](call, request)

    async def forget_app(self, bucket: int) -> None:
        self.deleted.append(bucket)


@dataclass(frozen=True)
class Worlds:
    """Makes worlds on one database; ``settings`` are those of the test, its keys fixed."""

    url: str
    data_dir: Path

    def settings(self, **changes: Any) -> Settings:
        fixed = {"bootstrap_pat": PAT, "bootstrap_api_key": API_KEY, "database_url": self.url}
        return Settings(**({"data_dir": self.data_dir} | fixed | changes))

    def run(self, scenario: Callable[[World], Awaitable[Any]], *, catalogue: Catalogue | None = None) -> Any:
        async def opened() -> Any:
            database = Database(self.url)
            await database.open()
            try:
                return await scenario(await make_world(database, self.settings(), catalogue or small_catalogue()))
            finally:
                await database.close()

        return asyncio.run(opened())


async def make_world(database: Database, settings: Settings, catalogue: Catalogue) -> World:
    first = await bootstrap(database, settings, catalogue)
    identity, book = Identity(database), ConceptBook(catalogue.vocabulary)
    world = World(database, identity, catalogue, book, settings, first)
    models, writer = ModelRecords(database), ModelWriter(book, Clock())
    records = Records(database, book, HostedUrls("http://localhost"))
    evaluations = Evaluations(database, book, records, models, world.to_evaluate)
    workbench = Workbench(database, book, Fits(database), {}, {})
    base_workflows = BaseWorkflows(database, catalogue, workbench, base_workflow=settings.base_workflow)
    for part in (
        Apps(
            database,
            identity,
            catalogue,
            base_workflows,
            base_workflow=settings.base_workflow,
            on_deleted=world.forget_app,
        ),
        Keys(database, identity),
        Users(database),
        Models(database, catalogue, models),
        ModelEdits(database, catalogue, models, writer),
        ModelVersions(database, catalogue, models, writer, evaluations, world.to_train),
        ModelIds(database, catalogue, models, RenamedModels(database)),
        ModelTags(database, catalogue),
        ModelContents(database, catalogue, models, records),
        evaluations,
        Workflows(catalogue, database),
        WorkflowChanges(catalogue, database, identity, NodeReader(catalogue, workbench), base_workflows),
        WorkflowVersions(catalogue, database, identity, base_workflows),
        Concepts(database, book),
        ConceptLanguages(database, book),
        ConceptSearch(database, book, catalogue),
    ):
        world.handlers |= part.handlers()
    return world
