"""Own workflows of apps as rows, and eyes whose predictions a test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from psycopg.types.json import Jsonb
from tests.integration.beside import beside
from tests.integration.test_ingest_worker import DIMS, WORKFLOWS, Bench, until

from sightrank.ingest.annotator import Annotator
from sightrank.ingest.intake import IdConflict, NewInput
from sightrank.ingest.jobs import Jobs
from sightrank.ingest.media import ImageSource
from sightrank.ingest.reindexer import Reindexer
from sightrank.ingest.rows import Content
from sightrank.ingest.worker import Worker
from sightrank.ingest.workflow import Workflow
from sightrank.search.fits import Fits
from sightrank.store.clock import Clock
from sightrank.store.database import Database
from sightrank.teach.workbench import PublicModel, Space, Workbench
from sightrank.vision.box import Box
from sightrank.vision.concept_model import ConceptModel
from sightrank.vision.detector import Detection
from sightrank.vision.eye import Eye, Prepared
from sightrank.vision.tagger import Tagger
from sightrank.vision.threads import Lane, Threads

TAGGER, EMBEDDER, DETECTOR = "general-image-recognition", "general-image-embedding", "general-image-detection"
_INSTALLED = {TAGGER: "visual-classifier", EMBEDDER: "visual-embedder", DETECTOR: "visual-detector"}
PEOPLE, DOG, WATER = "ai_l8TKp2h5", "ai_8S2Vq3cR", "ai_water000"
SUCCESS, PENDING = 24150, 24151
OVER, OVER_OR_AT, UNDER = 1, 2, 3
#: By name of the picture.
SHOWS = {
    "crowd": {PEOPLE: 0.97, DOG: 0.03, WATER: 0.99},
    "perhaps": {PEOPLE: 0.7, DOG: 0.95, WATER: 0.01},
}
_IDS = (PEOPLE, DOG, WATER)
_SCALE = 10.0


def tagger() -> Tagger:
    """Predicts each of three concepts along an axis of its own."""
    scale = np.full(len(_IDS), _SCALE, np.float32)
    return Tagger(_IDS, np.eye(len(_IDS), DIMS, dtype=np.float32), scale, np.zeros(len(_IDS), np.float32))


def vector(values: Mapping[str, float]) -> np.ndarray[Any, Any]:
    """The unit vector of which the tagger predicts these; 0.5 of what is not named."""
    made = np.zeros(DIMS, np.float32)
    for concept_id, value in values.items():
        made[_IDS.index(concept_id)] = np.log(value / (1 - value)) / _SCALE
    made[-1] = np.sqrt(1 - np.sum(made**2))
    return made


@dataclass(eq=False)
class Pictures:
    """Files that are their own names; ``shows`` says what the tagger is to predict of each."""

    shows: Mapping[str, Mapping[str, float]]

    async def load(self, bucket: int, *, url: str, blob: str) -> bytes:
        return (url or blob).rpartition("/")[2].encode()

    async def keep(self, bucket: int, data: bytes) -> str:
        return ""


@dataclass(eq=False)
class SeeingEye:
    """Sees in each of the ``pictures`` what it shows, and finds ``found`` in all of them, each of which shows
    ``in_regions``. While ``gate`` is closed nothing comes out. ``cut``: the parts it was asked to look at.
    """

    pictures: Pictures
    found: tuple[Detection, ...] = ()
    in_regions: Mapping[str, float] = field(default_factory=dict)
    gate: asyncio.Event | None = None
    seen: int = 0
    cut: list[Box] = field(default_factory=list)
    tagger: Tagger = field(default_factory=tagger)
    encoder: object = field(default_factory=object)
    detector: object = field(default_factory=object)

    async def prepare(self, data: bytes, boxes: Sequence[Box], lane: Lane, *, detect: bool) -> Prepared:
        found = self.found if detect else ()
        self.cut += boxes
        names = list(self.pictures.shows)
        pixels = np.full((1 + len(boxes) + len(found), 2, 2, 3), 255, np.uint8)
        pixels[0] = names.index(data.decode())
        return Prepared(pixels=pixels, width=2, height=2, format="PNG", color_mode="RGB", detections=found)

    async def embed(self, pixels: np.ndarray[Any, Any], lane: Lane) -> np.ndarray[Any, Any]:
        self.seen += len(pixels)
        if self.gate is not None:
            await self.gate.wait()
        shown = [*self.pictures.shows.values()]
        return np.stack([vector(self.in_regions if one == 255 else shown[one]) for one in pixels[:, 0, 0, 0]])

    def top(self, found: np.ndarray[Any, Any], count: int) -> list[list[tuple[str, float]]]:
        return self.tagger.top(found, count)


#: Runs a scenario in an app whose pictures show what ``SHOWS`` says; the rest is how the eye sees.
Flowing = Callable[..., None]


@dataclass(frozen=True)
class Flows:
    """An app that can get workflows of its own, and what looks at its pictures."""

    place: Bench
    eye: SeeingEye

    @property
    def database(self) -> Database:
        return self.place.world.database

    @property
    def workflow(self) -> Workflow:
        return replace(
            self.place.workflow,
            eye=cast(Eye, self.eye),
            tagger_id=TAGGER,
            tagger_version_id="t1",
            detector_id=DETECTOR if self.eye.found else "",
            detector_version_id="d1",
        )

    @property
    def workbench(self) -> Workbench:
        eye = cast(Eye, self.eye)
        public = {id: PublicModel(id=id, type_id=type_id, eye=eye) for id, type_id in _INSTALLED.items()}
        spaces = {"General": Space(eye=eye, table=self.place.workflow.table)}
        return Workbench(self.database, self.place.world.book, Fits(self.database), public, spaces)

    @property
    def annotator(self) -> Annotator:
        return Annotator(self.database, self.workbench, cast(ImageSource, self.eye.pictures))

    async def model(
        self,
        model_id: str,
        type_id: str,
        params: Mapping[str, Any] | None = None,
        *,
        status: int = 21100,
        concepts: Sequence[str] = (),
    ) -> None:
        """A model of the app with one version, ``{model_id}-1``."""
        keys = {"bucket": self.place.bucket, "id": model_id, "type_id": type_id, "concepts": list(concepts)}
        await self.database.execute(
            "INSERT INTO models (bucket, id, name, model_type_id, concept_ids)"
            " VALUES (%(bucket)s, %(id)s, %(id)s, %(type_id)s, %(concepts)s)",
            keys,
        )
        await self.database.execute(
            "INSERT INTO model_versions (bucket, id, model_id, status, concept_ids, params)"
            " VALUES (%(bucket)s, %(id)s || '-1', %(id)s, %(status)s, %(concepts)s, %(params)s)",
            {**keys, "status": status, "params": Jsonb(params or {})},
        )

    async def trained(self, model_id: str, **signs: int) -> None:
        """A trained classifier that predicts these concepts, 1 where the third number of a vector is high and -1 where
        it is low."""
        directions = np.outer([*signs.values()], np.eye(3, DIMS)[2]).astype(np.float32)
        scale, bias = np.full(len(signs), 10.0, np.float32), np.zeros(len(signs), np.float32)
        fit = ConceptModel([*signs], directions, scale, bias)
        await self.model(model_id, "embedding-classifier", concepts=[*signs])
        await self.database.execute(
            "INSERT INTO model_fits (bucket, model_version_id, embedder_id, fitted) VALUES (%s, %s, %s, %s)",
            [self.place.bucket, f"{model_id}-1", self.place.workflow.table.id, fit.dump()],
        )

    async def threshold(self, model_id: str, comparison: int, thresholds: Mapping[str, float]) -> None:
        await self.model(
            model_id, "concept-threshold", params={"concept_threshold_type": comparison, "concepts": thresholds}
        )

    async def writer(self, model_id: str, status: int, user_id: str = "") -> None:
        params = {"annotation_status": status, "annotation_user_id": user_id, "annotation_info": {"by": model_id}}
        await self.model(model_id, "annotation-writer", params)

    async def synonym(self, own: str, public: str) -> None:
        """Makes ``own`` a concept of the app and a synonym of the public one."""
        subject, object_ = sorted([own, public])
        async with self.database.transaction() as connection:
            await self.place.world.book.ensure_concepts(connection, self.place.bucket, [(own, "")])
            await connection.execute(
                "INSERT INTO concept_relations (bucket, id, subject_id, object_id, predicate)"
                " VALUES (%s, %s, %s, %s, 'synonym')",
                [self.place.bucket, f"{own}-{public}", subject, object_],
            )

    async def flow(self, workflow_id: str, version_id: str, **nodes: tuple[str, str, Sequence[str]]) -> None:
        """A version of a workflow of the app. Nodes by id: model, type, and the nodes that it gets its data from."""
        messages = [
            resources_pb2.WorkflowNode(
                id=node_id,
                model=_model(model_id, type_id),
                node_inputs=[resources_pb2.NodeInput(node_id=name) for name in inputs],
            )
            for node_id, (model_id, type_id, inputs) in nodes.items()
        ]
        keys = {"bucket": self.place.bucket, "id": workflow_id, "version": version_id}
        await self.database.execute(
            "INSERT INTO workflows (bucket, id) VALUES (%(bucket)s, %(id)s) ON CONFLICT DO NOTHING", keys
        )
        await self.database.execute(
            "INSERT INTO workflow_versions (bucket, id, workflow_id, nodes)"
            " VALUES (%(bucket)s, %(version)s, %(id)s, %(nodes)s)",
            {**keys, "nodes": resources_pb2.WorkflowVersion(nodes=messages).SerializeToString()},
        )

    async def patch(self, workflow_id: str, *, reindex: bool = False) -> resources_pb2.App:
        """The app as the answer shows it."""
        request = service_pb2.PatchAppRequest(
            user_app_id=resources_pb2.UserAppIDSet(app_id="photos"),
            app=resources_pb2.App(default_workflow_id=workflow_id),
            action="overwrite",
            reindex=reindex,
        )
        answer = await self.place.world.call("PatchApp", request)
        return cast(resources_pb2.App, answer.app)

    async def post(self, *names: str, content: Content | None = None) -> None:
        items = [
            NewInput(id=name, media="image", content=content or Content(), url=f"http://x/{name}") for name in names
        ]
        await self.place.intake.accept(self.place.bucket, "admin", items, IdConflict.SKIP)

    @asynccontextmanager
    async def working(self, owner: str = "w", lease_s: float = 60.0) -> AsyncIterator[None]:
        jobs = Jobs(self.database, Clock(), self.place.world.book, owner=owner, lease_s=lease_s, workflow_ids=WORKFLOWS)
        images = cast(ImageSource, self.eye.pictures)

        def run(threads: Threads) -> Coroutine[Any, Any, None]:
            workflows = {"General": self.workflow}
            return Worker(jobs, images, workflows, self.annotator, asyncio.Event(), threads=threads).run()

        async with beside(run):
            yield

    @asynccontextmanager
    async def reindexing(self) -> AsyncIterator[None]:
        """A process that re-indexes for the length of the block."""

        def run(threads: Threads) -> Coroutine[Any, Any, None]:
            reindexer = Reindexer(
                self.database,
                cast(ImageSource, self.eye.pictures),
                {"General": self.workflow},
                ("Empty",),
                self.annotator,
                self.place.world.book,
                threads=threads,
                clock=Clock(),
            )
            return reindexer.run()

        async with beside(run):
            yield

    async def is_settled(self) -> bool:
        """Whether no other workflow is wanted, and nothing is left of the one before."""
        return not await self.database.rows("SELECT FROM reindexes")

    async def index(self, *names: str, content: Content | None = None) -> None:
        """Posts these pictures and waits until they are indexed."""
        await self.post(*names, content=content)
        async with self.working():
            await until(self.place.is_indexed)

    async def reindex(self, workflow_id: str) -> None:
        """Has all inputs looked at for this workflow and waits until the app has it."""
        await self.patch(workflow_id, reindex=True)
        async with self.reindexing():
            await until(self.is_settled)

    async def forget_vectors(self) -> None:
        """Has all inputs looked at again, as after an upgrade of the model."""
        await self.database.execute("DELETE FROM vectors_1")
        await self.database.execute("UPDATE inputs SET status = 30001")

    async def written(self) -> list[tuple[str, str, int, dict[str, float]]]:
        """What writers wrote: input, in whose name, status and concepts."""
        rows = await self.database.rows(
            "SELECT i.id, a.user_id, a.status, a.concept_ids, a.concept_values FROM annotations a"
            " JOIN inputs i ON i.bucket = a.bucket AND i.number = a.input_number"
            " WHERE a.written_by <> '' ORDER BY i.id, a.status, a.area_id"
        )
        return [
            (name, user_id, status, {id: round(value, 3) for id, value in zip(ids, values, strict=True)})
            for name, user_id, status, ids, values in rows
        ]

    async def labels(self) -> list[tuple[str, str, float, bool]]:
        """Input, concept, value and whether it is trusted."""
        rows = await self.database.rows(
            "SELECT i.id, l.concept_id, l.value, l.trusted FROM labels l"
            " JOIN inputs i ON i.bucket = l.bucket AND i.number = l.input_number ORDER BY i.id, l.concept_id"
        )
        return [(name, concept_id, round(value, 3), trusted) for name, concept_id, value, trusted in rows]


def _model(model_id: str, type_id: str) -> resources_pb2.Model:
    """An installed one where the type is that of its namesake, else one of the app."""
    whose = {"user_id": "clarifai", "app_id": "main"} if _INSTALLED.get(model_id) == type_id else {}
    return resources_pb2.Model(id=model_id, model_type_id=type_id, **whose)


async def annotating(flows: Flows, *, bound: float = 0.9) -> None:
    """The guide's auto-annotation, in the app and as its base workflow."""
    await flows.synonym("persons", PEOPLE)
    await flows.synonym("hounds", DOG)
    await flows.model("mapper", "concept-synonym-mapper", {"knowledge_graph_id": ""})
    await flows.threshold("sure", OVER, {"persons": bound, "hounds": bound})
    await flows.threshold("doubtful", UNDER, {"persons": bound, "hounds": bound})
    await flows.writer("label", SUCCESS)
    await flows.writer("ask", PENDING, "ann")
    await flows.database.execute("INSERT INTO users (id) VALUES ('ann')")
    await flows.flow(
        "auto",
        "auto-1",
        embed=(EMBEDDER, "visual-embedder", ()),
        concept=(TAGGER, "visual-classifier", ()),
        mapper=("mapper", "concept-synonym-mapper", ["concept"]),
        sure=("sure", "concept-threshold", ["mapper"]),
        doubtful=("doubtful", "concept-threshold", ["mapper"]),
        label=("label", "annotation-writer", ["sure"]),
        ask=("ask", "annotation-writer", ["doubtful"]),
    )
    await flows.patch("auto")
