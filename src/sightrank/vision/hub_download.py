"""A model's files into a folder: from the Hub, or from another folder of this machine.

Downloads go on where they were interrupted, as long as they go to the same folder: whole files are not fetched again,
and of one that broke off the rest is. Every file is compared with the checksum the Hub states for it. ``HF_ENDPOINT``,
``HF_HUB_OFFLINE`` and ``HF_TOKEN`` mean what they mean to huggingface_hub, which does the work.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sightrank.vision.bundle import BundleError
from sightrank.vision.hub_files import HubLayout, choose_files, layout_of
from sightrank.vision.session import first_line

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

_TIMEOUT_S = 30.0
_CHUNK = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where files came from; ``revision`` is the commit, empty for a folder."""

    repo: str
    revision: str
    layout: HubLayout


def fetch(source: str, target: Path, *, precision: str | None) -> Origin:
    """Brings the files of a repository or folder into ``target``.

    Raises BundleError: no such repository, no network, not a dual encoder, a file that is not what the Hub says it is.
    """
    if Path(source).is_dir():
        return _copy(Path(source), target, precision=precision, repo=str(Path(source).resolve()), revision="")
    return _download(source, target, precision=precision)


def sha256_of(path: Path) -> str:
    """The checksum of a file of any size."""
    return _digest(path, hashlib.sha256())


def _copy(folder: Path, target: Path, *, precision: str | None, repo: str, revision: str) -> Origin:
    layout = layout_of(folder, precision)
    for name in layout.files:
        path = target / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, path)
        except OSError as error:
            raise BundleError(f"{folder / name} cannot be copied to {path}: {error.strerror or error}.") from error
    return Origin(repo=repo, revision=revision, layout=layout)


def _download(repo: str, target: Path, *, precision: str | None) -> Origin:
    from huggingface_hub import HfApi, constants, hf_hub_url, snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # that of its client, whichever it is

    try:
        if constants.HF_HUB_OFFLINE:
            kept = Path(snapshot_download(repo, local_files_only=True))
            return _copy(kept, target, precision=precision, repo=repo, revision=kept.name)
        info = HfApi().model_info(repo, files_metadata=True, timeout=_TIMEOUT_S)
        files = {each.rfilename: each for each in info.siblings or ()}
        layout = choose_files(files, source=repo, precision=precision)
        for name in layout.files:
            _download_file(hf_hub_url(repo, name, revision=info.sha), target / name, files[name])
    except BundleError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        raise BundleError(_told(error, repo, constants.ENDPOINT)) from error
    return Origin(repo=repo, revision=info.sha or "", layout=layout)


def _download_file(url: str, path: Path, stated: RepoSibling) -> None:
    """By the library's plain download and not ``hf_hub_download``, which forgets what a broken off run has fetched."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # its __init__ has no __all__

    if path.is_file() and _is_stated(path, stated):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{(stated.blob_id or '')[:12]}.part")
    with part.open("ab") as file:
        http_get(url, file, resume_size=file.tell(), headers=build_hf_headers(), expected_size=stated.size)
    if not _is_stated(part, stated):
        part.unlink()
        raise BundleError(f"{stated.rfilename} did not arrive as the Hub states it (wrong checksum). Try again.")
    os.replace(part, path)


def _is_stated(path: Path, stated: RepoSibling) -> bool:
    """Large files are known to the Hub by their SHA-256, small ones by the id that Git gives their content."""
    if stated.lfs is not None:
        return sha256_of(path) == stated.lfs.sha256
    git = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    return stated.blob_id is None or _digest(path, git) == stated.blob_id


def _digest(path: Path, digest: hashlib._Hash) -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _told(error: Exception, repo: str, endpoint: str) -> str:
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, HFValidationError):
        return f"{repo} is neither a folder here nor the name of a repository (owner/name)."
    if isinstance(error, GatedRepoError):
        return f"{repo} asks its users to agree to terms. Do so at {endpoint}/{repo}, then set HF_TOKEN."
    if isinstance(error, RepositoryNotFoundError):
        return f"{endpoint} has no repository {repo} that you may read, and there is no such folder here."
    if any(isinstance(each, HfHubHTTPError) for each in _causes(error)) and not isinstance(error, EntryNotFoundError):
        return f"{endpoint} refused to give {repo}: {first_line(error)}."
    if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled) and not _is_online():
        return f"HF_HUB_OFFLINE is set and {repo} is not in the Hub's cache on this machine. Give a folder instead."
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"{repo} names a file that {endpoint} does not have: {first_line(error)}."
    return (
        f"{repo} cannot be downloaded from {endpoint}: {first_line(error)}. The same command goes on where it stopped;"
        " without a network, give a folder."
    )


def _is_online() -> bool:
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE


def _causes(error: BaseException) -> Iterable[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
