"""Models of apps and their versions: rows to messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.call import AppRef
from sightrank.api.records import fill_timestamp
from sightrank.errors import ModelDoesNotExist, quoted
from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.status import (
    MODEL_FAILED,
    MODEL_QUEUED,
    MODEL_TRAINED,
    MODEL_TRAINING,
    MODEL_UNTRAINED,
    MODEL_WITHOUT_DATA,
    MODEL_WITHOUT_POSITIVES,
)

_SQL = queries.load("models")
_CONCEPTS = queries.load("concepts")
#: Published texts of the states of a version (api-spec 5.4).
STATUS_TEXTS: Mapping[int, str] = {
    MODEL_TRAINED: "Model is trained and ready for deployment",
    MODEL_TRAINING: "Custom model is currently being trained.",
    MODEL_UNTRAINED: "Custom model has not been trained yet.",
    MODEL_QUEUED: "Custom model is currently in queue for training, waiting on inputs to process.",
    MODEL_FAILED: "Custom model training failed.",
    MODEL_WITHOUT_DATA: "Custom model training had no data.",
    MODEL_WITHOUT_POSITIVES: "Custom model training had no positive examples.",
}


class VersionRow(NamedTuple):
    """Columns of the statements that read versions."""

    id: str
    created_at: datetime
    modified_at: datetime
    completed_at: datetime | None
    status: int
    status_details: str
    message: bytes
    concept_ids: Sequence[str]
    params: Mapping[str, Any]
    total_input_count: int
    progress: float

    def as_posted(self) -> VersionRow:
        """The version as it was before anybody trained it."""
        return self._replace(
            modified_at=self.created_at,
            completed_at=None,
            status=MODEL_QUEUED,
            status_details="",
            total_input_count=0,
            progress=0.0,
        )


class ModelRow(NamedTuple):
    """Columns of the statements that read models, each with one of its versions."""

    user_id: str
    app_id: str
    id: str
    name: str
    model_type_id: str
    description: str
    notes: str
    metadata: Mapping[str, Any]
    toolkits: Sequence[str]
    use_cases: Sequence[str]
    languages: Sequence[str]
    check_consents: Sequence[str]
    image_url: str
    task: str
    visibility: resources_pb2.Visibility.Gettable.ValueType
    concept_ids: Sequence[str]
    output_info: bytes
    created_at: datetime
    modified_at: datetime
    version_count: int
    version: VersionRow | None


def model_row(columns: Sequence[Any]) -> ModelRow:
    """A row of ``read`` or ``list`` in models.sql."""
    own = len(ModelRow._fields) - 1
    version = VersionRow(*columns[own:]) if columns[own] is not None else None
    return ModelRow._make([*columns[:own], version])


class ModelRecords:
    """Reads models of apps and makes messages of them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(
        self,
        app: AppRef,
        model_id: str,
        version_id: str = "",
        *,
        public_only: bool = False,
        trained_first: bool = False,
    ) -> ModelRow | None:
        """The model with that version, else with its latest (of the trained ones, where they come first); None where
        the app has no such model or the model no such version."""
        rows = await self.rows(
            app, [model_id], version_id=version_id, public_only=public_only, trained_first=trained_first
        )
        return rows[0] if rows else None

    async def rows(
        self,
        app: AppRef,
        model_ids: Sequence[str],
        *,
        version_id: str = "",
        public_only: bool = False,
        trained_first: bool = False,
    ) -> list[ModelRow]:
        """Those of these models that there are, in the order of the ids."""
        parameters = {
            "bucket": app.bucket,
            "ids": [id for id in model_ids if "\0" not in id],
            "version_id": version_id,
            "public_only": public_only,
            "trained_first": trained_first,
        }
        if "\0" in version_id:
            return []
        found = {row.id: row for row in map(model_row, await self._database.rows(_SQL["read"], parameters))}
        return [found[id] for id in model_ids if id in found]

    async def need(self, app: AppRef, model_id: str, version_id: str = "") -> ModelRow:
        """As ``find``. Raises ModelDoesNotExist."""
        row = await self.find(app, model_id, version_id)
        if row is None:
            raise no_model(app, model_id, version_id)
        return row

    async def messages(self, app: AppRef, rows: Sequence[ModelRow]) -> list[resources_pb2.Model]:
        """Models of one app with their concepts, each called as the app calls it now."""
        ids = [id for row in rows for id in (*row.concept_ids, *(row.version.concept_ids if row.version else ()))]
        names = await self.names(app, ids)
        return [model_message(row, names) for row in rows]

    async def names(self, app: AppRef, concept_ids: Iterable[str]) -> dict[str, str]:
        """Names of the app's concepts by id."""
        wanted = list(set(concept_ids))
        if not wanted:
            return {}
        return dict(await self._database.rows(_CONCEPTS["names"], {"bucket": app.bucket, "ids": wanted}))


def no_model(app: AppRef, model_id: str, version_id: str = "") -> ModelDoesNotExist:
    if version_id:
        return ModelDoesNotExist(
            f"There is no model {quoted(model_id)} with version {quoted(version_id)} in app {app.app_id!r};"
            " ListModelVersions names"
            " a model's versions."
        )
    return ModelDoesNotExist(
        f"There is no model {quoted(model_id)} in app {app.app_id!r}; ListModels names those that exist."
    )


def model_message(row: ModelRow, names: Mapping[str, str] | None) -> resources_pb2.Model:
    """One model with its version; ``names`` of concepts by id, or None to leave concepts out."""
    model = resources_pb2.Model(
        id=row.id,
        name=row.name,
        user_id=row.user_id,
        app_id=row.app_id,
        model_type_id=row.model_type_id,
        description=row.description,
        notes=row.notes,
        toolkits=row.toolkits,
        use_cases=row.use_cases,
        languages=row.languages,
        check_consents=row.check_consents,
        task=row.task,
        visibility=resources_pb2.Visibility(gettable=row.visibility),
        output_info=resources_pb2.OutputInfo.FromString(row.output_info),
        version_count=row.version_count,
    )
    fill_timestamp(model.created_at, row.created_at)
    fill_timestamp(model.modified_at, row.modified_at)
    model.metadata.update(row.metadata)
    model.output_info.output_config.SetInParent()
    if row.image_url:
        model.image.url = row.image_url
    if row.version is not None:
        model.model_version.CopyFrom(version_message(row.user_id, row.app_id, row.version, names))
    if names is not None and row.version is not None and not row.concept_ids:
        # What the model itself was not told, its version was.
        of_version = resources_pb2.ModelVersion.FromString(row.version.message).output_info
        model.output_info.data.concepts.extend(of_version.data.concepts)
    _name_concepts(model.output_info, row.user_id, row.app_id, names)
    return model


def version_message(
    user_id: str, app_id: str, row: VersionRow, names: Mapping[str, str] | None
) -> resources_pb2.ModelVersion:
    """A version as it was posted, with what has become of it."""
    version = resources_pb2.ModelVersion.FromString(row.message)
    version.id, version.user_id, version.app_id = row.id, user_id, app_id
    fill_timestamp(version.created_at, row.created_at)
    fill_timestamp(version.modified_at, row.modified_at)
    if row.completed_at is not None:
        fill_timestamp(version.completed_at, row.completed_at)
    version.status.code = row.status
    version.status.description = STATUS_TEXTS.get(row.status, "")
    version.status.details = row.status_details
    version.status.percent_completed = round(100 * row.progress)
    version.active_concept_count = len(row.concept_ids)
    version.total_input_count = row.total_input_count
    if not version.visibility.gettable:
        version.visibility.gettable = resources_pb2.Visibility.Gettable.PRIVATE
    _name_concepts(version.output_info, user_id, app_id, names)
    return version


def _name_concepts(
    output_info: resources_pb2.OutputInfo, user_id: str, app_id: str, names: Mapping[str, str] | None
) -> None:
    """Stored concepts have an id and a value."""
    if names is None:
        output_info.ClearField("data")
        return
    for concept in output_info.data.concepts:
        concept.name = names.get(concept.id, concept.id)
        concept.user_id, concept.app_id = user_id, app_id
