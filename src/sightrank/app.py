"""The composition root, with ``core`` and ``working``: what wires things together, starts and stops them.

Everything is opened in order on one exit stack and closed in the opposite order, also when a step in between fails.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog
from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.annotation_filters import AnnotationFilters
from sightrank.api.annotation_workers import AnnotationWorkers
from sightrank.api.annotations import Annotations
from sightrank.api.apps import Apps
from sightrank.api.asking import Asking
from sightrank.api.base_workflows import BaseWorkflows
from sightrank.api.bootstrap import Bootstrap, bootstrap
from sightrank.api.call import Handler, Handlers
from sightrank.api.catalogue import ModelCard, ModelType
from sightrank.api.concept_languages import ConceptLanguages
from sightrank.api.concept_relations import ConceptRelations
from sightrank.api.concept_search import ConceptSearch
from sightrank.api.concepts import Concepts
from sightrank.api.dataset_archive import PROTOBUF, ArchiveFormat, json_format
from sightrank.api.dataset_contents import DatasetContents
from sightrank.api.dataset_export_records import ExportRecords
from sightrank.api.dataset_exporter import DatasetExporter
from sightrank.api.dataset_exports import DatasetExports
from sightrank.api.dataset_inputs import DatasetInputs
from sightrank.api.dataset_versions import DatasetVersions
from sightrank.api.datasets import Datasets
from sightrank.api.evaluations import Evaluations
from sightrank.api.hosted_access import HostedAccess
from sightrank.api.identity import Identity
from sightrank.api.input_patch import InputPatches
from sightrank.api.inputs import Inputs
from sightrank.api.inputs_add_jobs import InputsAddJobs
from sightrank.api.keys import Keys
from sightrank.api.knowledge_graphs import KnowledgeGraphs
from sightrank.api.media import HostedMedia
from sightrank.api.model_contents import ModelContents
from sightrank.api.model_edits import ModelEdits
from sightrank.api.model_exports import ModelExports
from sightrank.api.model_ids import ModelIds
from sightrank.api.model_records import ModelRecords
from sightrank.api.model_references import ModelReferences
from sightrank.api.model_tags import ModelTags
from sightrank.api.model_types import ModelTypes
from sightrank.api.model_versions import ModelVersions
from sightrank.api.model_writer import ModelWriter
from sightrank.api.models import Models
from sightrank.api.outputs import Outputs
from sightrank.api.records import Records
from sightrank.api.saved_searches import SavedSearches
from sightrank.api.search_kinds import SearchReader
from sightrank.api.searches import Searches, SearchModels
from sightrank.api.users import Users
from sightrank.api.workflow_changes import WorkflowChanges
from sightrank.api.workflow_nodes import NodeReader
from sightrank.api.workflow_versions import WorkflowVersions
from sightrank.api.workflows import Workflows
from sightrank.background import background
from sightrank.core import Core, open_core
from sightrank.ingest.add_jobs import AddJobs
from sightrank.ingest.base_workflow import warn_of_absent
from sightrank.ingest.dataset_counts import DatasetCounts
from sightrank.ingest.history import History
from sightrank.ingest.intake import Intake
from sightrank.ingest.labelling import Labelling
from sightrank.ingest.regions import Regions
from sightrank.ingest.reindex import requeue_after_upgrade
from sightrank.ingest.removal import Removal
from sightrank.ingest.renamed_models import RenamedModels
from sightrank.ingest.revision import Revision
from sightrank.search.engine import SearchEngine
from sightrank.search.follow import Matrices
from sightrank.search.matrix_report import MatrixReport
from sightrank.search.scoring import Scoring
from sightrank.search.texts import Texts
from sightrank.search.vector_indexes import VectorIndexes
from sightrank.settings import Settings, available_cores
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.opening import open_store
from sightrank.store.statistics import keep_fresh
from sightrank.teach.leases import new_owner
from sightrank.wire.export_route import dataset_export_route, model_export_route
from sightrank.wire.json_writer import JsonWriter
from sightrank.wire.media_route import media_route
from sightrank.wire.options import WireOptions
from sightrank.wire.server import PortTakenError, WireServer
from sightrank.working import working

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers."""

    wire: WireServer
    first_start: Bootstrap


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[Running]:
    """A server with its workers. On leaving it takes no new calls, ends the running ones, and gives jobs back."""
    if settings.http_port == 0 and not settings.public_url:
        # Hosted URLs are made before the port is bound, so a free port must be known now.
        settings = settings.model_copy(update={"http_port": _free_port(settings.host)})
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(open_store(settings))
        core = await stack.enter_async_context(open_core(settings, url))
        first_start = await bootstrap(core.database, settings, core.catalogue)
        wake = asyncio.Event()
        if core.embedded:
            for queue in ("ingest", "reindex", "training", "evaluations", "dataset_exports"):
                await core.database.execute(queries.load(queue)["release_all"])
        for workflow_id, workflow in core.workflows.items():
            await requeue_after_upgrade(core.database, workflow, workflow_id)
        await stack.enter_async_context(working(core, settings.workers, wake))
        identity = Identity(core.database)
        hosted = HostedMedia(core.database, identity.authenticate, core.blobs, core.sizes)
        removal = Removal(core.database, core.blobs)
        stack.push_async_callback(removal.close)
        await stack.enter_async_context(background(removal.keep_swept()))
        await stack.enter_async_context(background(keep_fresh(core.database)))
        await stack.enter_async_context(background(RenamedModels(core.database).keep_followed()))
        await stack.enter_async_context(background(History(core.database, days=settings.history_days).keep_swept()))
        counts = DatasetCounts(core.database, core.book, core.to_count)
        await stack.enter_async_context(background(counts.keep_counted()))
        await stack.enter_async_context(background(_exporter(core).run()))
        models = ModelExports(core.catalogue, core.workbench, core.urls, identity.authenticate)
        datasets = DatasetExports(core.database, core.blobs, ExportRecords(core.database, core.urls), core.to_export)
        matrices = await stack.enter_async_context(_matrices(core))
        wire = WireServer(
            {**_handlers(core, identity, removal, matrices, wake), **models.handlers(), **datasets.handlers()},
            identity.authenticate,
            lambda: _is_ready(core.database),
            WireOptions(
                host=settings.host,
                grpc_port=settings.grpc_port,
                http_port=settings.http_port,
                tls_port=settings.tls_port,
                tls_cert=settings.tls_cert,
                tls_key=settings.tls_key,
                timeout_s=settings.request_timeout_s,
                # With a database of its own a server is alone in its data directory, and can tell whose it finds there.
                folder_note=settings.data_dir / "socket-folder" if core.embedded else None,
            ),
            extra_routes=lambda dispatcher: [
                media_route(hosted, dispatcher),
                model_export_route(models, dispatcher),
                dataset_export_route(datasets, dispatcher),
            ],
        )
        await wire.start()
        stack.push_async_callback(wire.stop)
        # Not before: a start that fails says why in one line and nothing else.
        if settings.names_this_machine_only:
            _log.warning(
                "hosted images have URLs that other machines cannot open; set SIGHTRANK_PUBLIC_URL",
                url=settings.http_base(settings.http_port),
            )
        for model in core.catalogue.models:
            _log.info("model ready", model=model.id, version=model.version_id, provider=_provider(core, model))
        await warn_of_absent(core.database, core.workflows.keys() | core.idle)
        yield Running(wire=wire, first_start=first_start)


def _provider(core: Core, model: ModelCard) -> str:
    """What runs a model."""
    eye = core.runners[model.id]
    runs = eye.detector if model.type is ModelType.DETECTOR else eye.encoder
    return runs.provider if runs is not None else ""


def _exporter(core: Core) -> DatasetExporter:
    """In servers, not in workers: what it writes has URLs of this server in it."""
    contents = DatasetContents(core.database, Records(core.database, core.book, core.urls))
    formats: dict[int, ArchiveFormat] = {
        resources_pb2.CLARIFAI_DATA_PROTOBUF: PROTOBUF,
        resources_pb2.CLARIFAI_DATA_JSON: json_format(JsonWriter([resources_pb2.Input.DESCRIPTOR]).text),
    }
    return DatasetExporter(core.database, core.blobs, contents, formats, core.threads, core.to_export)


@asynccontextmanager
async def _matrices(core: Core) -> AsyncIterator[Matrices]:
    """What ranks, in memory and by SQL, with the threads and the background work it needs."""
    scoring = Scoring(available_cores())
    matrices = Matrices(
        core.database,
        core.fits,
        memory_bytes=core.settings.matrix_memory_bytes,
        choice=core.settings.ranker,
        scoring=scoring,
    )
    report = MatrixReport(core.database, matrices.states, process=new_owner())
    indexes = VectorIndexes(core.database, matrices.states)
    try:
        async with background(report.keep_written()), background(indexes.keep_built()):
            yield matrices
    finally:
        await report.close()
        await matrices.close()
        await asyncio.to_thread(scoring.close)


def _handlers(core: Core, identity: Identity, removal: Removal, matrices: Matrices, wake: asyncio.Event) -> Handlers:
    """Every rpc that is built. Those missing here answer 10040."""
    records = Records(core.database, core.book, core.urls)
    regions = Regions(core.database, core.images, core.clock, decoders=core.threads.cores)
    labelling = Labelling(core.database, regions, core.book, core.clock, core.workflows, core.catalogue.lacks)
    revision = Revision(core.database, regions, core.book, core.clock, core.workflows, core.catalogue.lacks)
    engine = SearchEngine(core.database, matrices, core.book, core.images.look)
    versions = {card.id: frozenset(model.version_id for model in card.models) for card in core.catalogue.workflows}
    search_models = SearchModels(
        {id: (one.table, one.eye, versions[id], one.detector_id) for id, one in core.workflows.items()},
        core.catalogue.lacks,
    )
    texts = Texts(core.database, core.book, core.wording)
    reader = SearchReader(history_days=core.settings.history_days)
    saved = SavedSearches(core.database, reader, max_image_bytes=core.settings.max_image_bytes)
    hosted = HostedAccess(identity, core.urls, core.images)
    intake = Intake(core.database, core.blobs, removal, core.book, core.clock)
    model_records, model_writer = ModelRecords(core.database), ModelWriter(core.book, core.clock)
    models = Models(core.database, core.catalogue, model_records)
    evaluations = Evaluations(core.database, core.book, records, model_records, core.to_evaluate)
    exports = ExportRecords(core.database, core.urls)
    base_workflows = BaseWorkflows(
        core.database, core.catalogue, core.workbench, base_workflow=core.settings.base_workflow
    )
    resources = (
        Users(core.database),
        Apps(
            core.database,
            identity,
            core.catalogue,
            base_workflows,
            base_workflow=core.settings.base_workflow,
            on_deleted=removal.delete_bucket,
        ),
        Keys(core.database, identity),
        models,
        ModelReferences(models),
        ModelEdits(core.database, core.catalogue, model_records, model_writer),
        ModelVersions(core.database, core.catalogue, model_records, model_writer, evaluations, core.to_train),
        ModelIds(core.database, core.catalogue, model_records, RenamedModels(core.database)),
        ModelTags(core.database, core.catalogue),
        ModelContents(core.database, core.catalogue, model_records, records),
        ModelTypes(),
        evaluations,
        Outputs(
            core.catalogue, core.images, hosted, core.database, Asking(core.catalogue, core.database, core.workbench)
        ),
        Workflows(core.catalogue, core.database),
        WorkflowChanges(
            core.catalogue, core.database, identity, NodeReader(core.catalogue, core.workbench), base_workflows
        ),
        WorkflowVersions(core.catalogue, core.database, identity, base_workflows),
        Concepts(core.database, core.book),
        ConceptLanguages(core.database, core.book),
        ConceptRelations(core.database, core.book),
        KnowledgeGraphs(core.database),
        ConceptSearch(core.database, core.book, core.catalogue),
        Inputs(core.database, intake, removal, records, hosted, wake, max_image_bytes=core.settings.max_image_bytes),
        InputPatches(core.database, revision, records, core.urls),
        InputsAddJobs(AddJobs(core.database)),
        Annotations(core.database, labelling, revision, records),
        AnnotationWorkers(core.database),
        Datasets(core.database, core.blobs),
        DatasetInputs(core.database, core.book, records, reader, core.clock),
        DatasetVersions(core.database, core.blobs, exports, core.clock, reader, core.to_count),
        Searches(
            core.database, engine, search_models, records, reader, saved, texts, core.threads, hosted, identity.forget
        ),
        saved,
        AnnotationFilters(core.database, reader),
    )
    handlers: dict[str, Handler] = {}
    for resource in resources:
        handlers.update(resource.handlers())
    return handlers


def _free_port(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, 0), family=family) as listener:
            return int(listener.getsockname()[1])
    except OSError as error:
        raise PortTakenError(f"Cannot listen on {host}: {error.strerror or error}. Choose another --host.") from error


async def _is_ready(database: Database) -> bool:
    return await database.row("SELECT 1") is not None
