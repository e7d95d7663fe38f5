"""An app that the server wrote, read back from its database as plain records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from clarifai_grpc.grpc.api import resources_pb2
from google.protobuf import json_format
from tests.oracle.records import Annotation, App, Area, Input, Names, Vector, Version

#: Runs a statement with its parameters.
Ask = Callable[..., list[tuple[Any, ...]]]

_SAID = (
    "input_number, id, area_id, created_at, modified_at, {until}, status, trusted, input_level, user_id, task_id,"
    " model_id, model_version_id, concept_ids, concept_values, metadata, latitude, longitude, annotation_info, data"
)


def read_app(ask: Ask, user_id: str, app_id: str, public: Mapping[str, Names]) -> App:
    """The app as it is now, with its history."""
    [(bucket, language)] = ask(
        "SELECT first_bucket, default_language FROM apps WHERE user_id = %s AND id = %s", user_id, app_id
    )
    [(embedder, dims)] = ask("SELECT id, dims FROM embedders")
    inputs = _read_inputs(ask, bucket)
    vectors = {
        area_id: _vector(text)
        for area_id, text in ask(f"SELECT area_id, vector::text FROM vectors_{embedder} WHERE bucket = %s", bucket)
    }
    areas = _read_areas(ask, bucket, inputs, vectors)
    _read_annotations(ask, bucket, inputs, areas)
    return App(
        bucket=bucket,
        language=language,
        dims=dims,
        inputs=sorted(inputs.values(), key=lambda item: item.created_us),
        own=_read_concepts(ask, bucket),
        public=public,
        user_id=user_id,
    )


def _read_inputs(ask: Ask, bucket: int) -> dict[int, Input]:
    inputs = {
        number: Input(id=name, number=number, created_us=_microseconds(created), status=status, media=media, url=url)
        for number, name, created, status, media, url in ask(
            "SELECT number, id, created_at, status, media, url FROM inputs WHERE bucket = %s", bucket
        )
    }
    for number, dataset in ask("SELECT input_number, dataset_id FROM dataset_inputs WHERE bucket = %s", bucket):
        inputs[number].datasets += (dataset,)
    return inputs


def _read_areas(ask: Ask, bucket: int, inputs: Mapping[int, Input], vectors: Mapping[int, Vector]) -> dict[int, Area]:
    areas: dict[int, Area] = {}
    for name, number, created, region_id, top in ask(
        "SELECT id, input_number, created_at, region_id, box_top FROM areas WHERE bucket = %s"
        " ORDER BY region_id IS NOT NULL, id",
        bucket,
    ):
        areas[name] = Area(
            id=name,
            created_us=_microseconds(created),
            is_region=region_id is not None,
            has_box=top is not None,
            region_id=region_id or "",
            vector=vectors.get(name),
        )
        inputs[number].areas.append(areas[name])
    return areas


def _read_annotations(ask: Ask, bucket: int, inputs: Mapping[int, Input], areas: dict[int, Area]) -> None:
    past = ask(
        f"SELECT {_SAID.format(until='until')}, region_id, box_top FROM past_annotations WHERE bucket = %s", bucket
    )
    now = ask(f"SELECT {_SAID.format(until='NULL')}, NULL, NULL FROM annotations WHERE bucket = %s", bucket)
    annotations: dict[tuple[int, str], Annotation] = {}
    for row in sorted([*past, *now], key=lambda row: row[4]):
        number, name, area_id, created, modified, until, status, trusted, input_level, user, task, *said = row
        if (number, name) not in annotations:
            annotation = Annotation(
                id=name,
                created_us=_microseconds(created),
                input_level=input_level,
                user_id=user,
                task_id=task,
                model_id=said[0],
                model_version_id=said[1],
            )
            annotations[number, name] = annotation
            inputs[number].annotations.append(annotation)
        if area_id not in areas:
            areas[area_id] = Area(
                id=area_id,
                created_us=0,
                is_region=said[-2] is not None,
                has_box=said[-1] is not None,
                region_id=said[-2] or "",
                is_gone=True,
            )
        annotations[number, name].versions.append(
            Version(
                modified_us=_microseconds(modified),
                until_us=_microseconds(until) if until else None,
                status=status,
                trusted=trusted,
                area=areas[area_id],
                data=_data(*said[2:7], said[8]),
                info=said[7],
            )
        )


def _data(
    concepts: list[str],
    values: list[float],
    metadata: dict[str, Any] | None,
    latitude: float | None,
    longitude: float | None,
    rest: dict[str, Any] | None,
) -> resources_pb2.Data:
    data = resources_pb2.Data()
    if rest:
        json_format.ParseDict(rest, data)
    for concept, value in zip(concepts, values, strict=True):
        data.concepts.add(id=concept, value=value)
    if metadata is not None:
        data.metadata.SetInParent()
        data.metadata.update(metadata)
    if latitude is not None and longitude is not None:
        data.geo.geo_point.latitude, data.geo.geo_point.longitude = latitude, longitude
        data.geo.geo_point.SetInParent()
    return data


def _read_concepts(ask: Ask, bucket: int) -> dict[str, tuple[str, dict[str, str]]]:
    own: dict[str, tuple[str, dict[str, str]]] = {
        name: (text, {}) for name, text in ask("SELECT id, name FROM concepts WHERE bucket = %s", bucket)
    }
    for name, language, text in ask(
        "SELECT concept_id, language, name FROM concept_languages WHERE bucket = %s", bucket
    ):
        own[name][1][language] = text
    return own


def _vector(text: str) -> Vector:
    return np.array(json.loads(text), np.float16).astype(np.float64)


def _microseconds(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
