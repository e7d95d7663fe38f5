"""The models an operator added: one folder each below the models folder, with a manifest that is written last.

    <models>/<id>/manifest.json  config.json  onnx/…     an installed model
    <models>/.adding-<id>-…                              one that is being downloaded, or was interrupted
    <models>/universal                                   the id of the model behind the workflow Universal

A manifest::

    {"id": "clip", "kind": "dual-encoder", "version": "…", "dims": 512, "precision": "fp32", "licence": "mit",
     "repo": "owner/name", "revision": "…", "added_at": "2026-01-31T12:00:00+00:00", "sha256": {"config.json": "…"}}
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sightrank.vision.bundle import BundleError
from sightrank.vision.hub_download import Origin, fetch, sha256_of
from sightrank.vision.hub_encoder import DualEncoder, load_dual_encoder
from sightrank.vision.hub_files import read_json
from sightrank.vision.session import Provider

KIND = "dual-encoder"
MANIFEST = "manifest.json"

_ROLE = "universal"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
#: What may change without the vectors changing.
_PAPERS = frozenset({"README.md", "LICENSE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class InstalledModel:
    """A folder below the models folder. With a ``problem`` it cannot be used, and only ``id`` and ``folder`` count.

    ``universal`` says that it is the model behind the workflow Universal.
    """

    id: str
    folder: Path
    universal: bool
    version: str = ""
    dims: int = 0
    precision: str = ""
    licence: str = ""
    repo: str = ""
    revision: str = ""
    added_at: str = ""
    problem: str = ""

    def load(self, *, threads: int, provider: Provider = "cpu") -> DualEncoder:
        """Raises BundleError, also for a model with a problem."""
        if self.problem:
            raise BundleError(self.problem)
        return load_dual_encoder(self.folder, threads=threads, provider=provider, precision=self.precision)


def installed_models(models_dir: Path) -> tuple[InstalledModel, ...]:
    """All models that were added, in that order, each file compared with its checksum; damaged ones come last.

    A damaged folder is reported by its ``problem`` and never raised, so that it keeps nobody from starting.
    """
    role = _role(models_dir)
    folders = [path for path in models_dir.glob("*") if path.is_dir() and not path.name.startswith(".")]
    found = [_examined(folder, universal=folder.name == role) for folder in folders]
    return tuple(sorted(found, key=lambda model: (bool(model.problem), model.added_at, model.id)))


def add_model(
    models_dir: Path,
    source: str,
    model_id: str,
    *,
    precision: str | None = None,
    universal: bool = False,
    reserved: Collection[str] = (),
    threads: int = 1,
) -> InstalledModel:
    """Brings a model from a folder or the Hub, tries it, and installs it under ``model_id``.

    The first one, or one added with ``universal``, serves the workflow Universal. Raises BundleError and leaves nothing
    but perhaps a download that the next call with the same source goes on with.
    """
    _check_id(model_id, reserved)
    with _locked(models_dir):
        if (models_dir / model_id).exists():
            raise BundleError(f"There is a model {model_id} already. Choose another --id, or remove that one first.")
        mark = hashlib.sha256(source.encode()).hexdigest()[:8]
        staging = models_dir / f".adding-{model_id}-{mark}"
        staging.mkdir(exist_ok=True)
        origin = fetch(source, staging, precision=precision)
        _keep_only(staging, origin.layout.files)
        try:
            manifest = _manifest(staging, model_id, origin, threads)
        except BundleError as error:
            shutil.rmtree(staging, ignore_errors=True)
            raise BundleError(str(error).replace(str(staging), source)) from error
        _write(staging / MANIFEST, json.dumps(manifest, indent=1))
        os.rename(staging, models_dir / model_id)
        if universal or _role(models_dir) is None:
            _write(models_dir / _ROLE, model_id)
    return _examined(models_dir / model_id, universal=_role(models_dir) == model_id)


def remove_model(models_dir: Path, model_id: str) -> str | None:
    """Deletes a model, damaged or not, and what is left of its downloads.

    Where it served the workflow Universal, the model added first among the others does from now on; its id is
    returned. Raises BundleError when there is no such model.
    """
    _check_id(model_id, ())
    with _locked(models_dir):
        doomed = [*models_dir.glob(f".adding-{model_id}-????????")]
        if (models_dir / model_id).is_dir():
            # Out of sight first: a half deleted folder must not look like a damaged model.
            doomed.append((models_dir / model_id).rename(models_dir / f".removed-{model_id}"))
        if not doomed:
            raise BundleError(f"There is no model {model_id} in {models_dir}; `sightrank models list` shows them.")
        for folder in doomed:
            shutil.rmtree(folder)
        if _role(models_dir) != model_id:
            return None
        (models_dir / _ROLE).unlink()
        heir = next((model.id for model in installed_models(models_dir) if not model.problem), None)
        if heir is not None:
            _write(models_dir / _ROLE, heir)
        return heir


def _manifest(folder: Path, model_id: str, origin: Origin, threads: int) -> dict[str, Any]:
    encoder = load_dual_encoder(folder, threads=threads, precision=origin.layout.precision)
    checksums = {name: sha256_of(folder / name) for name in sorted(origin.layout.files)}
    content = json.dumps([(name, digest) for name, digest in checksums.items() if name not in _PAPERS])
    return {
        "id": model_id,
        "kind": KIND,
        "version": hashlib.sha256(content.encode()).hexdigest()[:32],
        "dims": encoder.images.dims,
        "precision": origin.layout.precision,
        "licence": _licence(folder),
        "repo": origin.repo,
        "revision": origin.revision,
        "added_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "sha256": checksums,
    }


def _examined(folder: Path, *, universal: bool) -> InstalledModel:
    try:
        manifest = read_json(folder, MANIFEST)
        if not manifest:
            raise BundleError(f"{folder} has no {MANIFEST}.")
        if manifest["id"] != folder.name or manifest["kind"] != KIND:
            raise BundleError(f"{folder / MANIFEST} describes {manifest['kind']} {manifest['id']}, not this folder.")
        for name, digest in manifest["sha256"].items():
            if not (folder / name).is_file():
                raise BundleError(f"{folder / name} is missing.")
            if sha256_of(folder / name) != digest:
                raise BundleError(f"{folder / name} is not the file its manifest describes (SHA-256 differs).")
        texts = {name: str(manifest[name]) for name in ("version", "precision", "licence", "repo", "revision")}
        dims, added_at = int(manifest["dims"]), str(manifest["added_at"])
    except BundleError as error:
        return InstalledModel(id=folder.name, folder=folder, universal=universal, problem=_broken(folder, str(error)))
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        problem = _broken(folder, f"{folder / MANIFEST}: missing or wrong entry ({error}).")
        return InstalledModel(id=folder.name, folder=folder, universal=universal, problem=problem)
    return InstalledModel(id=folder.name, folder=folder, universal=universal, dims=dims, added_at=added_at, **texts)


def _broken(folder: Path, why: str) -> str:
    return f"The model {folder.name} cannot be used: {why} Remove it and add it again."


def _check_id(model_id: str, reserved: Collection[str]) -> None:
    if not _ID.fullmatch(model_id):
        raise BundleError(
            f"{model_id!r} cannot be a model's id: up to 64 letters, digits, hyphens and underscores can."
        )
    if model_id.casefold() in {each.casefold() for each in (*reserved, _ROLE)}:
        raise BundleError(f"{model_id} is the id of a built-in model or workflow. Choose another --id.")


def _licence(folder: Path) -> str:
    """What the front matter of the model's README says; empty where it says nothing."""
    try:
        text = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    front = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    found = re.search(r"^license:[ \t]*[\"']?([^\s\"'#]+)", front[1], re.MULTILINE) if front else None
    return found[1] if found else ""


def _role(models_dir: Path) -> str | None:
    try:
        return (models_dir / _ROLE).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def _keep_only(folder: Path, names: Collection[str]) -> None:
    """Takes away what an earlier download left, of another revision or at another precision."""
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


@contextmanager
def _locked(models_dir: Path) -> Iterator[None]:
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with (models_dir / ".lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BundleError(f"Another command is changing {models_dir}. Wait for it to end.") from None
            yield
    except OSError as error:
        raise BundleError(f"{models_dir} cannot be changed: {error.strerror or error} ({error.filename}).") from error
