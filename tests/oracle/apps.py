"""Random apps: as plain records, and as rows of a real database, written by the statements of ingest."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.ingest.rows import AnnotationRow, insert_annotations, next_version
from sightrank.store import queries, vectors
from sightrank.store.database import Connection, Database
from sightrank.store.vectors import EmbedderTable, VectorRows
from sightrank.vision.vocabulary import Term, Vocabulary

DIMS = 6
_INPUTS = queries.load("inputs")

#: The public vocabulary: id to names. "palm" means two concepts, "sea" is public and an app's own.
PUBLIC: Mapping[str, Mapping[str, str]] = {
    "ai_dog": {"en": "dog", "ja": "犬", "de": "Hund"},
    "ai_cat": {"en": "cat", "ja": "猫", "de": "Katze"},
    "ai_palm": {"en": "palm", "de": "Palme"},
    "ai_hand": {"en": "palm", "de": "Hand"},
    "ai_sea": {"en": "sea", "de": "Meer"},
    "ai_gift": {"en": "gift", "de": "Geschenk"},
}
#: Concepts of the app itself: id to its name in the app's language and in others.
OWN: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "sea": ("Sea", {}),
    "my-dog": ("Rex", {"de": "Hund"}),
    "poison": ("poison", {"de": "Gift"}),
    "ai_cat": ("cat", {}),
    "unseen": ("nobody has it", {}),
    "dog-too": ("dog", {}),
}
#: What the tagger predicts; "ai_gift" has a row so steep that probabilities run into 0 and 1.
TAGGED = ("ai_dog", "ai_cat", "ai_palm", "ai_hand", "ai_gift")
USERS = ("ann", "bob")
DATASETS = ("first", "second", "empty")
ANNOTATION_STATUSES = (24150, 24151, 24153)


@dataclass(kw_only=True)
class Area:
    id: int
    created_us: int
    #: As stored, in float64; None for areas of inputs that were never embedded.
    vector: NDArray[np.float64] | None


@dataclass(kw_only=True)
class Annotation:
    id: str
    area_id: int
    created_us: int
    modified_us: int
    status: int
    trusted: bool
    input_level: bool
    user_id: str
    by_model: bool
    concepts: tuple[tuple[str, float], ...]


@dataclass(kw_only=True)
class Input:
    id: str
    number: int
    created_us: int
    status: int
    media: str
    datasets: tuple[str, ...]
    areas: list[Area] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)


@dataclass(kw_only=True)
class App:
    """One app: what the oracle reads."""

    bucket: int
    language: str
    inputs: list[Input]


def vocabulary() -> Vocabulary:
    return Vocabulary([Term(concept_id, names, (), "") for concept_id, names in PUBLIC.items()])


def random_unit(random: np.random.Generator) -> NDArray[np.float64]:
    vector = random.normal(size=DIMS)
    return np.asarray(vector / np.linalg.norm(vector))


async def make_app(database: Database, table: EmbedderTable, *, seed: int, inputs: int, regions: int) -> App:
    """Writes an app of ``inputs`` inputs with up to ``regions`` regions each, in a few transactions, and returns it."""
    random = np.random.default_rng([seed, inputs, regions])
    language = "de" if seed % 3 == 2 else "en"
    async with database.transaction() as connection:
        cursor = await connection.execute("INSERT INTO app_buckets DEFAULT VALUES RETURNING bucket")
        row = await cursor.fetchone()
        assert row is not None
        app = App(bucket=row[0], language=language, inputs=[])
        await _write_concepts(connection, app)
        await _write_datasets(connection, app)
    writer = _Writer(app, table, random, regions)
    parts = 1 + int(random.integers(3))
    for part in range(parts):
        async with database.transaction() as connection:
            await writer.write(connection, inputs * (part + 1) // parts - inputs * part // parts)
    # Regions that come later stand at the end of the matrix, far from the other areas of their inputs.
    if regions:
        async with database.transaction() as connection:
            await writer.add_late_regions(connection)
    return app


async def _write_concepts(connection: Connection, app: App) -> None:
    for concept_id, (name, others) in OWN.items():
        # The app's own language may be the one of a translation; then that is its name.
        await connection.execute(
            "INSERT INTO concepts (bucket, id, name, name_folded) VALUES (%s, %s, %s, lower(%s))",
            [app.bucket, concept_id, name, name],
        )
        for language, text in others.items():
            if language != app.language:
                await connection.execute(
                    "INSERT INTO concept_languages (bucket, concept_id, language, name, name_folded)"
                    " VALUES (%s, %s, %s, %s, lower(%s))",
                    [app.bucket, concept_id, language, text, text],
                )


async def _write_datasets(connection: Connection, app: App) -> None:
    for dataset in DATASETS:
        await connection.execute("INSERT INTO datasets (bucket, id) VALUES (%s, %s)", [app.bucket, dataset])


class _Writer:
    """Makes inputs up and writes them."""

    def __init__(self, app: App, table: EmbedderTable, random: np.random.Generator, regions: int) -> None:
        self._app = app
        self._table = table
        self._random = random
        self._regions = regions
        self._now_us = 1_700_000_000_000_000 + int(random.integers(10**9))
        self._pool = [random_unit(random) for _ in range(5)]

    async def write(self, connection: Connection, count: int) -> None:
        fresh = [self._input() for _ in range(count)]
        if not fresh:
            return
        numbers = await self._insert_inputs(connection, fresh)
        for item in fresh:
            item.number = numbers[item.id]
        whole = dict(await _pairs(connection, "insert_whole_areas", self._app, numbers=list(numbers.values())))
        for item in fresh:
            item.areas = [Area(id=whole[item.number], created_us=item.created_us, vector=None)]
            item.annotations = [self._annotation(item.areas[0], input_level=True)]
        many = [(item, None) for item in fresh for _ in range(int(self._random.integers(0, self._regions + 1)))]
        await self._insert_regions(connection, [item for item, _ in many])
        for item in fresh:
            for area in item.areas:
                item.annotations += [self._annotation(area) for _ in range(int(self._random.integers(0, 3)))]
        await self._finish(connection, {item.number: (item, item.areas, item.annotations) for item in fresh})
        members = [(dataset, item.number) for item in fresh for dataset in item.datasets]
        await connection.execute(
            _INPUTS["insert_dataset_inputs"],
            {
                "bucket": self._app.bucket,
                "rows": json.dumps(
                    [
                        {
                            "dataset_id": dataset,
                            "input_number": number,
                            "created_at": _instant(self._tick()).isoformat(),
                        }
                        for dataset, number in members
                    ]
                ),
            },
        )
        self._app.inputs += fresh

    async def add_late_regions(self, connection: Connection) -> None:
        indexed = [item for item in self._app.inputs if item.status == 30000]
        chosen = [item for item in indexed if self._random.random() < 0.2]
        known = {item.number: (len(item.areas), len(item.annotations)) for item in chosen}
        await self._insert_regions(connection, chosen)
        for item in chosen:
            item.annotations.append(self._annotation(item.areas[-1]))
        await self._finish(
            connection,
            {
                item.number: (item, item.areas[known[item.number][0] :], item.annotations[known[item.number][1] :])
                for item in chosen
            },
        )

    def _tick(self) -> int:
        self._now_us += 1 + int(self._random.integers(5))
        return self._now_us

    def _input(self) -> Input:
        status = int(self._random.choice([30000, 30000, 30000, 30000, 30001, 30002]))
        media = str(self._random.choice(["image", "image", "image", "text", "video"]))
        member = self._random.random(len(DATASETS) - 1) < 0.4
        return Input(
            id=f"in-{self._random.bytes(4).hex()}",
            number=0,
            created_us=self._tick(),
            status=status,
            media=media,
            datasets=tuple(dataset for dataset, chosen in zip(DATASETS[:-1], member, strict=True) if chosen),
        )

    def _annotation(self, area: Area, *, input_level: bool = False) -> Annotation:
        concepts = sorted({*PUBLIC, *OWN} - {"unseen"})
        chosen = self._random.choice(concepts, size=int(self._random.integers(0, 4)), replace=False)
        values = [float(np.float32(self._random.choice([0.0, 0.2, 0.5, 0.9, 1.0, 1.0]))) for _ in chosen]
        created = area.created_us if input_level else self._tick()
        by_model = not input_level and bool(self._random.random() < 0.15)
        return Annotation(
            id=self._random.bytes(8).hex(),
            area_id=area.id,
            created_us=created,
            # A few are patched later, in another order than they were made in.
            modified_us=created + int(self._random.choice([0, 0, 10**9, 2 * 10**9])),
            status=int(self._random.choice(ANNOTATION_STATUSES)),
            trusted=not by_model and bool(self._random.random() < 0.75),
            input_level=input_level,
            user_id="" if by_model else str(self._random.choice(USERS)),
            by_model=by_model,
            concepts=tuple((str(concept), value) for concept, value in zip(chosen, values, strict=True)),
        )

    async def _insert_inputs(self, connection: Connection, fresh: list[Input]) -> dict[str, int]:
        rows = [
            {
                "id": item.id,
                "created_at": _instant(item.created_us).isoformat(),
                "status": item.status,
                "media": item.media,
                "url": "",
                "unique_url": False,
                "blob": "",
                "text_raw": "",
            }
            for item in fresh
        ]
        return dict(await _pairs(connection, "insert", self._app, rows=json.dumps(rows)))

    async def _insert_regions(self, connection: Connection, owners: list[Input]) -> None:
        """One region more for each of ``owners``. Some are made in the same microsecond."""
        regions = {uuid.UUID(bytes=self._random.bytes(16)).hex: (item, self._region_us()) for item in owners}
        rows = [
            {
                "input_number": item.number,
                "created_at": _instant(created).isoformat(),
                "region_id": region_id,
                "box_top": 0.1,
                "box_left": 0.1,
                "box_bottom": 0.9,
                "box_right": 0.9,
            }
            for region_id, (item, created) in regions.items()
        ]
        ids = dict(await _pairs(connection, "insert_regions", self._app, rows=json.dumps(rows)))
        for region_id, (item, created) in regions.items():
            item.areas.append(Area(id=ids[region_id], created_us=created, vector=None))

    def _region_us(self) -> int:
        return self._now_us if self._random.random() < 0.3 else self._tick()

    async def _finish(
        self, connection: Connection, written: dict[int, tuple[Input, list[Area], list[Annotation]]]
    ) -> None:
        """Annotations with their labels, vectors of what is indexed, and one version for all of it."""
        bucket = self._app.bucket
        rows = [_annotation_row(item, note) for item, _, notes in written.values() for note in notes]
        await insert_annotations(connection, bucket, rows)
        for _, _, notes in written.values():
            for note in notes:
                if note.modified_us != note.created_us:
                    instant = _instant(note.modified_us)
                    for table, name in (("labels", "annotation_id"), ("annotations", "id")):
                        await connection.execute(
                            f"UPDATE {table} SET modified_at = %s WHERE bucket = %s AND {name} = %s",
                            [instant, bucket, note.id],
                        )
        version = await next_version(connection, bucket, labels=True)
        embedded = [
            (item, area)
            for item, areas, _ in written.values()
            for area in areas
            if item.status == 30000 and item.media != "text"
        ]
        stored = np.array([self._vector() for _ in embedded], np.float64).reshape(-1, DIMS).astype(np.float16)
        for (_, area), vector in zip(embedded, stored, strict=True):
            area.vector = vector.astype(np.float64)
        await vectors.insert(
            connection,
            self._table,
            bucket,
            version,
            VectorRows(
                area_ids=np.array([area.id for _, area in embedded], np.int64),
                input_numbers=np.array([item.number for item, _ in embedded], np.int64),
                created_us=np.array([area.created_us for _, area in embedded], np.int64),
                vectors=stored,
            ),
        )

    def _vector(self) -> NDArray[np.float64]:
        """Often one of a few, now and then its opposite: copies and extremes are where orders go wrong."""
        kind = self._random.random()
        chosen = self._pool[int(self._random.integers(len(self._pool)))]
        if kind < 0.3:
            return chosen
        return -chosen if kind < 0.35 else random_unit(self._random)


def _annotation_row(item: Input, note: Annotation) -> AnnotationRow:
    return AnnotationRow(
        input_number=item.number,
        id=note.id,
        area_id=note.area_id,
        created_at=_instant(note.created_us),
        status=note.status,
        trusted=note.trusted,
        input_level=note.input_level,
        user_id=note.user_id,
        model_id="general" if note.by_model else "",
        model_version_id="v1" if note.by_model else "",
        concept_ids=[concept for concept, _ in note.concepts],
        concept_values=[value for _, value in note.concepts],
    )


async def _pairs(connection: Connection, statement: str, app: App, **parameters: object) -> list[tuple[Any, Any]]:
    cursor = await connection.execute(_INPUTS[statement], {"bucket": app.bucket, **parameters})
    return [(row[0], row[1]) for row in await cursor.fetchall()]


def _instant(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)
