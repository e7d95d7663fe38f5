"""Applications: making, reading, changing and removing them (api-spec 2.1)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import psycopg
import structlog
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_pb2
from google.protobuf import struct_pb2
from psycopg import sql
from psycopg.types.json import Jsonb

from sightrank.api.base_workflows import AppNow, BaseWorkflows, Checked
from sightrank.api.call import AppRef, Call, Handlers
from sightrank.api.catalogue import Catalogue
from sightrank.api.identity import ME, PUBLIC_APP, PUBLIC_USER, Identity
from sightrank.api.pages import list_page
from sightrank.api.patterns import like_pattern
from sightrank.api.predictions import checked_sample_ms
from sightrank.errors import DoesNotExist, DuplicateKey, InvalidRequest, quoted
from sightrank.ingest.base_workflow import want_workflow
from sightrank.ingest.reindex_progress import progress_of
from sightrank.search.contents import struct_to_json
from sightrank.store.database import Connection, Database, retrying
from sightrank.store.queries import load
from sightrank.vision.vocabulary import LANGUAGES

PRIVATE = resources_pb2.Visibility.Gettable.PRIVATE
PUBLIC = resources_pb2.Visibility.Gettable.PUBLIC
MAX_TEXT_BYTES = 64 * 1024  # of notes, by the proto; of names, descriptions and all other texts too

#: Removes what an app keeps outside of the database, its images, once its rows are gone.
OnDeleted = Callable[[int], Awaitable[None]]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_log = structlog.get_logger(__name__)


class Apps:
    """The app rpcs. ``base_workflow`` is what an app created without a workflow gets."""

    def __init__(
        self,
        database: Database,
        identity: Identity,
        catalogue: Catalogue,
        base_workflows: BaseWorkflows,
        *,
        base_workflow: str,
        on_deleted: OnDeleted,
    ) -> None:
        self._database = database
        self._identity = identity
        self._catalogue = catalogue
        self._base_workflows = base_workflows
        self._base_workflow = base_workflow
        self._on_deleted = on_deleted
        self._sql = load("apps")

    def handlers(self) -> Handlers:
        return {
            "PostApps": self.post,
            "GetApp": self.get,
            "ListApps": self.list,
            "PatchApp": self.patch,
            "PatchApps": self.patch_many,
            "DeleteApp": self.delete,
        }

    async def post(self, call: Call, request: service_pb2.PostAppsRequest) -> service_pb2.MultiAppResponse:
        """All of the apps, or none of them when one cannot be made."""
        if not request.apps:
            raise InvalidRequest("apps is empty; send at least one app.")
        async with self._database.transaction() as connection:
            rows = await insert_apps(
                connection, call.require_caller().user_id, request.apps, self._catalogue, self._base_workflow
            )
        self._identity.forget()
        return service_pb2.MultiAppResponse(apps=map(app_proto, rows))

    async def get(self, call: Call, request: service_pb2.GetAppRequest) -> service_pb2.SingleAppResponse:
        app = call.require_app()
        row = await self._database.row(self._sql["app_rows"], {"user_id": app.user_id, "ids": [app.app_id]})
        if row is None:
            raise DoesNotExist(f"There is no app {app.app_id} of user {app.user_id}.")
        return await self._shown(app, row)

    async def list(self, call: Call, request: service_pb2.ListAppsRequest) -> service_pb2.MultiAppResponse:
        """Newest first unless told otherwise. Of another user only public apps are shown.

        ``id`` and ``name`` take ``*`` for any text; without it ``id`` is a part, ``name`` the whole.
        """
        caller = call.require_caller()
        named = request.user_app_id.user_id
        user_id = caller.user_id if named in ("", ME) else named
        filters = {
            "user_id": user_id,
            "public_only": user_id != caller.user_id,
            "template_only": request.template_only,
            "visibility": request.visibility.gettable,
            "name": like_pattern(plain_text(request.name, "name")),
            "id": like_pattern(plain_text(request.id, "id"), part=True),
            "text": plain_text(request.search or request.query, "search"),
        }
        if request.featured_only or request.starred_only:
            return service_pb2.MultiAppResponse()
        statement = sql.SQL("{} {}").format(sql.SQL(self._sql["list_apps"]), _order(request))
        rows = await self._database.rows(list_page(request).limit(statement), filters)
        return service_pb2.MultiAppResponse(apps=map(app_proto, rows))

    async def patch(self, call: Call, request: service_pb2.PatchAppRequest) -> service_pb2.SingleAppResponse:
        app = call.require_app()
        if request.app.id not in ("", app.app_id):
            raise InvalidRequest(
                f"The request names the app {app.app_id} and its body {request.app.id}: ids cannot change."
            )
        rows = await self._patch_all(app.user_id, {app.app_id: request.app}, request)
        return await self._shown(app, rows[app.app_id])

    async def patch_many(self, call: Call, request: service_pb2.PatchAppsRequest) -> service_pb2.MultiAppResponse:
        """All of the changes, or none of them when one app cannot be changed."""
        user_id = call.require_caller().user_id
        rows = await self._patch_all(user_id, {app.id: app for app in request.apps}, request)
        return service_pb2.MultiAppResponse(apps=[app_proto(rows[app.id]) for app in request.apps])

    async def delete(self, call: Call, request: service_pb2.DeleteAppRequest) -> status_pb2.BaseResponse:
        """Everything in the app goes in one transaction; its stored images right after."""
        app = call.require_app()
        buckets = await retrying(
            lambda: self._delete_rows(app), busy=f"App {app.app_id} is being written to; try to delete it again."
        )
        self._identity.forget()
        for bucket in buckets:
            try:
                await self._on_deleted(bucket)
            except OSError:
                # The app is gone either way; an answer of failure would only make the client ask for nothing.
                _log.exception("images of a deleted app remain", bucket=bucket)
        return status_pb2.BaseResponse()

    async def _shown(self, app: AppRef, row: Sequence[Any]) -> service_pb2.SingleAppResponse:
        """The app, and in the status how far a change of its base workflow is."""
        response = service_pb2.SingleAppResponse(app=app_proto(row))
        progress = await progress_of(self._database, app.bucket)
        if progress is not None:
            response.status.details = progress.text()
        return response

    async def _delete_rows(self, app: AppRef) -> Sequence[int]:
        async with self._database.transaction() as connection:
            return await _delete_everything(connection, app)

    async def _patch_all(
        self, user_id: str, apps: Mapping[str, resources_pb2.App], request: Any
    ) -> Mapping[str, Sequence[Any]]:
        """The rows of these apps by their ids; all are changed, or none is."""
        if request.action != "overwrite":
            raise InvalidRequest(f"action is {request.action or 'empty'}; apps are patched by `overwrite`.")

        async def patched() -> Mapping[str, Sequence[Any]]:
            checked = {app_id: await self._checked(user_id, app_id, app, request) for app_id, app in apps.items()}
            async with self._database.transaction() as connection:
                # In order of id, so that two calls cannot wait for each other.
                return {
                    app_id: await self._patch(connection, user_id, app_id, apps[app_id], request, checked[app_id])
                    for app_id in sorted(apps)
                }

        rows = await retrying(patched, busy="Others keep changing the workflows of these apps; try again in a moment.")
        self._identity.forget()
        return rows

    async def _checked(self, user_id: str, app_id: str, app: resources_pb2.App, request: Any) -> Checked | None:
        """The workflow that a patch is about; None where it is about none."""
        named = app.default_workflow if app.default_workflow.id else resources_pb2.Workflow(id=app.default_workflow_id)
        if not named.id and not request.reindex:
            return None
        row = await self._database.row(self._sql["workflows"], {"user_id": user_id, "id": plain_text(app_id, "id")})
        if row is None:
            raise _no_app(user_id, app_id)
        return await self._base_workflows.check(_now(user_id, app_id, *row), named)

    async def _patch(
        self,
        connection: Connection,
        user_id: str,
        app_id: str,
        app: resources_pb2.App,
        request: Any,
        checked: Checked | None,
    ) -> Sequence[Any]:
        """One app: what the patch sets is replaced, everything else stays (api-spec 2.1)."""
        ids = {"user_id": user_id, "id": plain_text(app_id, "id")}
        cursor = await connection.execute(self._sql["lock_app"], ids)
        row = await cursor.fetchone()
        if row is None:
            raise _no_app(user_id, app_id)
        bucket, _, workflow, own_workflow, language, metadata = row
        if app.default_language not in ("", language):
            raise InvalidRequest(f"default_language of app {app_id} is {language} and cannot change.")
        if app.HasField("metadata"):
            metadata = patched_metadata(metadata, app.metadata, request.metadata_action.op)
        if checked is not None:
            now = _now(user_id, app_id, bucket, workflow, own_workflow)
            wanted = await self._base_workflows.wanted(connection, checked, now, reindex=request.reindex)
            workflow, own_workflow = await want_workflow(connection, bucket, (workflow, own_workflow), wanted)
        workflows = {"workflow": workflow, "own_workflow": own_workflow}
        values = _patch_values(app) | workflows | {"metadata": Jsonb(metadata)} | ids
        return await _one(connection, self._sql["patch_app"], values)


async def insert_apps(
    connection: Connection, user_id: str, apps: Sequence[resources_pb2.App], catalogue: Catalogue, base_workflow: str
) -> Sequence[Sequence[Any]]:
    """Makes apps with a bucket each; their rows in the given order. Raises DuplicateKey when an id is taken, also by
    another app of this call, and WorkflowDoesNotExist or WorkflowNeedsModel for their workflows."""
    values = {"user_id": user_id} | _insert_values(apps, catalogue, base_workflow)
    try:
        cursor = await connection.execute(load("apps")["insert_apps"], values)
    except psycopg.errors.UniqueViolation as error:
        raise DuplicateKey(f"User {user_id} already has an app of the id {' or '.join(values['ids'])}.") from error
    position = {app_id: index for index, app_id in enumerate(values["ids"])}
    return sorted(await cursor.fetchall(), key=lambda row: position[row[1]])


def _insert_values(apps: Sequence[resources_pb2.App], catalogue: Catalogue, base_workflow: str) -> dict[str, Any]:
    workflows = [app.default_workflow.id or app.default_workflow_id or base_workflow for app in apps]
    ids = [new_id(app.id) for app in apps]
    return {
        "ids": ids,
        "names": [plain_text(app.name, "name") or app_id for app, app_id in zip(apps, ids, strict=True)],
        "descriptions": [plain_text(app.description, "description") for app in apps],
        "notes": [plain_text(app.notes, "notes") for app in apps],
        "languages": [_language(app.default_language) for app in apps],
        "workflows": [catalogue.usable_workflow(workflow).id for workflow in workflows],
        "metadata": [Jsonb(struct_to_json(app.metadata, InvalidRequest)) for app in apps],
        "visibilities": [app.visibility.gettable or PRIVATE for app in apps],
        "sample_ms": [checked_sample_ms(app.sample_ms, "sample_ms") or 1000 for app in apps],
        "templates": [app.is_template.value for app in apps],
    }


async def _delete_everything(connection: Connection, app: AppRef) -> Sequence[int]:
    """The bucket's own row first: from then on no writer can commit into it. Then every table that has a bucket, the
    youngest (vectors) before those they refer to; a table added by a later migration is covered without a word."""
    statements = load("apps")
    ids = {"user_id": app.user_id, "id": app.app_id}
    cursor = await connection.execute(statements["lock_app"], ids)
    row = await cursor.fetchone()
    if row is None:
        raise DoesNotExist(f"There is no app {app.app_id} of user {app.user_id}.")
    buckets = range(row[0], row[0] + row[1])
    await connection.execute(statements["delete_buckets"], {"buckets": list(buckets)})
    cursor = await connection.execute(statements["bucket_tables"])
    for (table,) in await cursor.fetchall():
        for bucket in buckets:
            await connection.execute(
                sql.SQL("DELETE FROM {} WHERE bucket = %s").format(sql.Identifier(table)), [bucket]
            )
    await connection.execute(statements["delete_app"], ids)
    return buckets


def _no_app(user_id: str, app_id: str) -> DoesNotExist:
    return DoesNotExist(f"There is no app {quoted(app_id)} of user {quoted(user_id)}.")


def _now(user_id: str, app_id: str, bucket: int, workflow_id: str, own_workflow_id: str) -> AppNow:
    return AppNow(
        user_id=user_id, app_id=app_id, bucket=bucket, workflow_id=workflow_id, own_workflow_id=own_workflow_id
    )


def new_id(wanted: str) -> str:
    """The id as wished, or a fresh one for an empty wish. Raises InvalidRequest for an id the API does not allow."""
    if not wanted:
        return secrets.token_hex(16)
    if not _ID.fullmatch(wanted):
        raise InvalidRequest(
            f"The id {quoted(wanted)} is not allowed: 1 to 64 letters, digits, - and _, beginning with a letter or"
            " digit."
        )
    return wanted


def plain_text(text: str, field: str) -> str:
    """Text as PostgreSQL can hold it. Raises InvalidRequest for a NUL character, and for more than MAX_TEXT_BYTES."""
    if len(text.encode()) > MAX_TEXT_BYTES:
        raise InvalidRequest(f"{field} has {len(text.encode())} bytes; {MAX_TEXT_BYTES} is the limit.")
    if "\0" in text:
        raise InvalidRequest(f"{field} holds a NUL character, which cannot be stored; remove it.")
    return text


def patched_metadata(old: dict[str, Any], patch: struct_pb2.Struct, operation: str) -> dict[str, Any]:
    """``metadata_action.op``: overwrite (default), merge (recursively), or remove (the keys named)."""
    new = struct_to_json(patch, InvalidRequest)
    if operation in ("", "overwrite"):
        return new
    if operation == "merge":
        return _merged(old, new)
    if operation == "remove":
        return {key: value for key, value in old.items() if key not in new}
    raise InvalidRequest(f"metadata_action.op is {operation}; it can be overwrite, merge or remove.")


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(old[key], value) if isinstance(value, dict) and isinstance(old.get(key), dict) else value
        for key, value in new.items()
    }
    return old | both


def app_proto(row: Sequence[Any]) -> resources_pb2.App:
    user_id, app_id, name, description, notes, language, public, own, metadata, visibility, sample_ms, *rest = row
    template, created_at, modified_at = rest
    app = resources_pb2.App(
        id=app_id,
        user_id=user_id,
        name=name,
        description=description,
        notes=notes,
        default_language=language,
        default_workflow_id=own or public,
        default_workflow=resources_pb2.Workflow(id=own, app_id=app_id, user_id=user_id)
        if own
        else resources_pb2.Workflow(id=public, app_id=PUBLIC_APP, user_id=PUBLIC_USER),
        visibility=resources_pb2.Visibility(gettable=visibility),
        sample_ms=sample_ms,
    )
    app.is_template.value = template
    app.metadata.update(metadata)
    app.created_at.FromDatetime(created_at)
    app.modified_at.FromDatetime(modified_at)
    return app


def _patch_values(app: resources_pb2.App) -> dict[str, Any]:
    """Fields set in the patch; None leaves the column alone."""
    return {
        "name": plain_text(app.name, "name") or None,
        "description": plain_text(app.description, "description") or None,
        "notes": plain_text(app.notes, "notes") or None,
        "visibility": app.visibility.gettable or None,
        "sample_ms": checked_sample_ms(app.sample_ms, "sample_ms") or None,
        "template": app.is_template.value if app.HasField("is_template") else None,
    }


def _language(language: str) -> str:
    if language and language not in LANGUAGES:
        raise InvalidRequest(f"default_language is {language}; it can be one of {', '.join(LANGUAGES)}.")
    return language or "en"


def _order(request: Any) -> sql.Composable:
    columns = {"sort_by_name": "name", "sort_by_id": "id", "sort_by_modified_at": "modified_at"}
    column = next((name for flag, name in columns.items() if getattr(request, flag)), "created_at")
    direction = sql.SQL("ASC" if request.sort_ascending else "DESC")
    return sql.SQL("ORDER BY {column} {direction}, id {direction}").format(
        column=sql.Identifier(column), direction=direction
    )


async def _one(connection: Connection, statement: Any, values: dict[str, Any]) -> Sequence[Any]:
    row = await (await connection.execute(statement, values)).fetchone()
    assert row is not None, "a statement that always returns a row"
    return row
