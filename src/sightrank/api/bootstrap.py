"""The first start: the public user and app, the admin, an app, a personal access token and an app key.

Everything happens in one transaction under one lock, so that any number of servers can start on one database at once:
one of them makes things, the others find them made. Random keys exist in plain text only in ``credentials.env``, which
is written before the transaction commits: a crash in between leaves a file whose keys the next start takes up.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from clarifai_grpc.grpc.api import resources_pb2

from sightrank.api.apps import PUBLIC, insert_apps, new_id
from sightrank.api.catalogue import EMPTY_WORKFLOW, Catalogue
from sightrank.api.identity import APP_KEY, ME, PAT, PUBLIC_APP, PUBLIC_USER, key_hash
from sightrank.api.keys import key_prefix, new_key
from sightrank.errors import AppError, InvalidRequest
from sightrank.settings import Settings
from sightrank.store.database import Connection, Database
from sightrank.store.queries import load

DEFAULT_USER = "admin"
DEFAULT_APP = "photos"
CREDENTIALS_FILE = "credentials.env"

_VARIABLES = {
    "pat": "CLARIFAI_PAT",
    "api_key": "CLARIFAI_API_KEY",
    "user_id": "CLARIFAI_USER_ID",
    "app_id": "CLARIFAI_APP_ID",
}


class BootstrapError(RuntimeError):
    """The first user or app cannot be made as the settings say; the text names the setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a client needs. A key is empty when it was made elsewhere: only its hash is known here."""

    user_id: str
    app_id: str
    pat: str = ""
    api_key: str = ""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """``made`` says whether this start made keys that a person should be shown, once."""

    credentials: Credentials
    made: bool


async def bootstrap(database: Database, settings: Settings, catalogue: Catalogue) -> Bootstrap:
    """Makes what is missing. Idempotent; keys fixed by the settings are valid afterwards, whatever was before.

    Random keys are made together with their user or app only, so a revoked key never comes back. Raises BootstrapError.
    """
    path = settings.data_dir / CREDENTIALS_FILE
    user_id = settings.bootstrap_user_id or DEFAULT_USER
    app_id = settings.bootstrap_app_id or DEFAULT_APP
    _check(settings, user_id)
    before = read_credentials(path)
    same_user = before is not None and before.user_id == user_id
    known_pat = before.pat if before and same_user else ""
    known_api_key = before.api_key if before and same_user and before.app_id == app_id else ""
    try:
        async with database.transaction() as connection:
            await connection.execute(load("identity")["bootstrap_lock"])
            await _ensure_public(connection, catalogue)
            fresh_user = await _ensure_user(connection, user_id, first_name="")
            fresh_app = await _ensure_app(connection, user_id, app_id, catalogue, settings.base_workflow)
            pat = settings.bootstrap_pat or ((known_pat or new_key()) if fresh_user else "")
            api_key = settings.bootstrap_api_key or ((known_api_key or new_key()) if fresh_app else "")
            await _ensure_keys(connection, user_id, app_id, pat, api_key)
            now = Credentials(user_id=user_id, app_id=app_id, pat=pat or known_pat, api_key=api_key or known_api_key)
            if (pat or api_key) and now != before:
                _save(path, now)
    except AppError as error:
        raise BootstrapError(f"Cannot make the first app {user_id}/{app_id}: {error.details}") from error
    return Bootstrap(now, made=fresh_user or fresh_app)


def read_credentials(path: Path) -> Credentials | None:
    """The credentials of the file, or None where there is none. Raises BootstrapError for any other file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BootstrapError(f"Cannot read {path}: {error}. Run as the user who started the server.") from error
    found = dict(line.removeprefix("export ").split("=", 1) for line in lines if line.startswith("export "))
    values = {name: "".join(shlex.split(found.get(variable, ""))) for name, variable in _VARIABLES.items()}
    if not values["user_id"] or not values["app_id"]:
        raise BootstrapError(f"{path} names no user or app; restore it, or remove it and start the server again.")
    return Credentials(**values)


def env_lines(credentials: Credentials, *, api_base: str = "", grpc_base: str = "") -> list[str]:
    """What ``sightrank env`` prints: lines a shell can take in. Unknown values are left out, never emptied."""
    values = {_VARIABLES[field.name]: getattr(credentials, field.name) for field in fields(credentials)}
    values |= {"CLARIFAI_API_BASE": api_base, "CLARIFAI_GRPC_BASE": grpc_base}
    return [f"export {name}={shlex.quote(value)}" for name, value in values.items() if value]


def unwritable(path: Path, error: OSError) -> str:
    return f"Cannot write {path}: {error.strerror or error}. Choose another folder by --data-dir, or open this one."


def _check(settings: Settings, user_id: str) -> None:
    if user_id in (ME, PUBLIC_USER):
        raise BootstrapError(f"SIGHTRANK_BOOTSTRAP_USER_ID is {user_id}, which the API reserves; choose another.")
    try:
        new_id(user_id)
    except InvalidRequest as error:
        raise BootstrapError(f"SIGHTRANK_BOOTSTRAP_USER_ID: {error.details}") from error
    for name in ("bootstrap_pat", "bootstrap_api_key"):
        key = getattr(settings, name)
        if key and not (8 <= len(key) <= 512 and key.isascii() and key.isprintable() and " " not in key):
            raise BootstrapError(f"SIGHTRANK_{name.upper()} must be 8 to 512 ASCII characters without spaces.")
    if settings.bootstrap_pat and settings.bootstrap_pat == settings.bootstrap_api_key:
        raise BootstrapError("SIGHTRANK_BOOTSTRAP_PAT and SIGHTRANK_BOOTSTRAP_API_KEY are the same; they must differ.")


async def _ensure_public(connection: Connection, catalogue: Catalogue) -> None:
    await _ensure_user(connection, PUBLIC_USER, first_name="Clarifai")
    visibility = resources_pb2.Visibility(gettable=PUBLIC)
    app = resources_pb2.App(id=PUBLIC_APP, visibility=visibility, default_workflow_id=EMPTY_WORKFLOW)
    await _ensure(connection, PUBLIC_USER, app, catalogue, EMPTY_WORKFLOW)


async def _ensure_user(connection: Connection, user_id: str, *, first_name: str) -> bool:
    values = {"user_id": user_id, "first_name": first_name}
    return (await connection.execute(load("identity")["insert_user"], values)).rowcount == 1


async def _ensure_app(
    connection: Connection, user_id: str, app_id: str, catalogue: Catalogue, base_workflow: str
) -> bool:
    return await _ensure(connection, user_id, resources_pb2.App(id=app_id), catalogue, base_workflow)


async def _ensure(
    connection: Connection, user_id: str, app: resources_pb2.App, catalogue: Catalogue, base_workflow: str
) -> bool:
    cursor = await connection.execute(load("identity")["app"], {"user_id": user_id, "app_id": app.id})
    if await cursor.fetchone() is not None:
        return False
    await insert_apps(connection, user_id, [app], catalogue, base_workflow)
    return True


async def _ensure_keys(connection: Connection, user_id: str, app_id: str, pat: str, api_key: str) -> None:
    for key, key_type, app in ((pat, PAT, None), (api_key, APP_KEY, app_id)):
        if key:
            values = {
                "hash": key_hash(key),
                "prefix": key_prefix(key),
                "user_id": user_id,
                "type": key_type,
                "description": "made at the first start",
                "app_user_id": app and user_id,
                "app_id": app,
            }
            await connection.execute(load("keys")["upsert_key"], values)


def _save(path: Path, credentials: Credentials) -> None:
    try:
        _write(path, credentials)
    except OSError as error:
        raise BootstrapError(unwritable(path, error)) from error


def _write(path: Path, credentials: Credentials) -> None:
    """Whole or not at all, and never readable by others, not even for a moment."""
    text = "".join(f"{line}\n" for line in env_lines(credentials))
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
