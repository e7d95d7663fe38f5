"""``sightrank models evaluate``: has a running server evaluate a version, and shows what comes out
(docs/evaluation.md)."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from sightrank.api_client import Access, ApiClient, ClientError
from sightrank.evaluation_plots import KINDS, PlotsMissing, check_plots, draw
from sightrank.evaluation_report import Report, read_report
from sightrank.evaluation_tables import compare, open_console, show

_EVALUATED = 21300
_WAITING = (21301, 21303)
_LOOK_S = 0.25
_FIELDS = "&".join(f"fields.{name}=true" for name in ("binary_metrics", "confusion_matrix", "cooccurrence_matrix"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be evaluated. '' for a version is the latest trained one, for ``against`` none, and for a dataset what
    each version was trained with. ``plots`` is a folder for pictures of ``kind``."""

    model_id: str
    version_id: str = ""
    against: str = ""
    dataset_id: str = ""
    plots: Path | None = None
    kind: str = "png"


def run(access: Access, wanted: Wanted, *, timeout_s: float) -> None:
    """Evaluates, prints tables and writes plots. Raises ClientError."""
    if wanted.kind not in KINDS:
        raise ClientError(f"--format is {wanted.kind}; it can be {' or '.join(KINDS)}.")
    if wanted.plots is not None:
        _check_plots(wanted.plots)
    console = open_console()
    with console.status("Evaluating …"):
        report, other = asyncio.run(evaluate(access, wanted, timeout_s=timeout_s))
    show(console, report)
    if other is not None:
        console.print()
        compare(console, report, other)
    if wanted.plots is not None:
        for path in _drawn(wanted.plots, wanted.kind, report, other):
            console.print(f"Plot: {path}", markup=False, soft_wrap=True)


async def evaluate(access: Access, wanted: Wanted, *, timeout_s: float) -> tuple[Report, Report | None]:
    """The version's evaluation, and that of the other one to compare it with. Raises ClientError."""
    versions = [wanted.version_id] + ([wanted.against] if wanted.against else [])
    async with ApiClient(access) as client:
        posted = [_posted(wanted, version) for version in versions]
        answer = await client.post("evaluations", {"eval_metrics": posted})
        ids = [item["id"] for item in answer["eval_metrics"]]
        deadline = time.monotonic() + timeout_s
        reports = [await _finished(client, evaluation_id, deadline) for evaluation_id in ids]
    return reports[0], reports[1] if len(reports) > 1 else None


def _posted(wanted: Wanted, version_id: str) -> dict[str, object]:
    message: dict[str, object] = {"model": {"id": wanted.model_id, "model_version": {"id": version_id}}}
    if wanted.dataset_id:
        message["ground_truth_dataset"] = {"id": wanted.dataset_id}
    return message


async def _finished(client: ApiClient, evaluation_id: str, deadline: float) -> Report:
    resource = f"evaluations/{quote(evaluation_id, safe='')}"
    while True:
        message = (await client.get(resource))["eval_metrics"]
        status = message["status"]
        if status["code"] not in _WAITING:
            break
        if time.monotonic() > deadline:
            raise ClientError(
                f"The evaluation {evaluation_id} is not done; the server goes on with it. Wait longer by --timeout."
            )
        await asyncio.sleep(_LOOK_S)
    if status["code"] != _EVALUATED:
        raise ClientError(f"{status['code']} {status['description']}. {status.get('details', '')}".strip())
    return read_report((await client.get(f"{resource}?{_FIELDS}"))["eval_metrics"])


def _check_plots(folder: Path) -> None:
    """Before the server begins: an evaluation may take minutes."""
    try:
        check_plots()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except PlotsMissing as error:
        raise ClientError(str(error)) from error
    except OSError as error:
        raise _unwritable(folder, error) from error


def _drawn(folder: Path, kind: str, report: Report, other: Report | None) -> list[Path]:
    try:
        return draw(report, folder, kind, other)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> ClientError:
    return ClientError(f"--plots {folder} cannot be written: {error.strerror or error}.")
