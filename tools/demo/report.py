"""What the demo prints: progress, one table per search, and how to go on from there."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from tools.demo.photos import Photo, PhotoSet
from tools.demo.runner import Answer, Indexed
from tools.demo.runner import Progress as Report
from tools.demo.searches import reason
from tools.demo.server import Credentials, Server

ROWS = 6


def make_console() -> Console:
    """A console that is wide enough for the tables when the output goes to a file."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


@contextlib.contextmanager
def progress_bar(console: Console, photos: int) -> Iterator[Report]:
    """A bar that fills while photos are indexed."""
    columns = (
        TextColumn("Indexing"),
        BarColumn(bar_width=48),
        MofNCompleteColumn(),
        TextColumn("photos"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=photos)
        yield lambda arrived, failed, _total: progress.update(task, completed=arrived + failed)


def show_indexed(console: Console, indexed: Indexed) -> None:
    if indexed.posted:
        rate = indexed.posted / max(indexed.took_s, 1e-9)
        kept = f", {indexed.kept} were there already" if indexed.kept else ""
        console.print(f"Indexed {indexed.posted} photos in {indexed.took_s:.1f} s ({rate:.0f} a second){kept}.")
    else:
        console.print(f"All {indexed.kept} photos were indexed by an earlier run.")
    for name, details in indexed.failed[:5]:
        console.print(f"  [yellow]{name}[/]: {details}")
    if len(indexed.failed) > 5:
        console.print(f"  [yellow]and {len(indexed.failed) - 5} more failed[/]")


def show_answer(console: Console, number: int, answer: Answer, photos: Mapping[str, Photo]) -> None:
    search = answer.search
    query = f"like {search.photo.title}" if search.photo is not None else search.words
    console.print()
    console.print(f"[bold]{number}. {search.title}:[/] [bold cyan]{query}[/]")
    console.print(f"[dim]{search.note}[/]")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("rank", justify="right", style="dim")
    table.add_column("score", justify="right")
    table.add_column("input", no_wrap=True)
    table.add_column("shows")
    table.add_column("why")
    for rank, hit in enumerate(answer.hits[:ROWS], start=1):
        photo = photos.get(hit.input_id)
        table.add_row(
            str(rank),
            f"{hit.score:.3f}",
            hit.input_id,
            photo.title if photo else "",
            reason(search, hit, answer.parts),
        )
    console.print(table)
    if answer.faults:
        for fault in answer.faults:
            console.print(f"[bold red]✗[/] {fault}")
    else:
        console.print(f"[green]✓[/] [dim]gRPC and REST agree on {len(answer.hits)} hits · {answer.took_ms:.1f} ms[/]")


def show_sheets(console: Console, folder: Path, files: list[Path]) -> None:
    console.print()
    console.print(f"Contact sheets in [bold]{folder}[/]: {', '.join(file.name for file in files)}")


def show_addresses(console: Console, server: Server, credentials: Credentials, photos: PhotoSet) -> None:
    body = '{"searches":[{"query":{"ranks":[{"annotation":{"data":{"concepts":[{"id":"people"}]}}}]}}]}'
    curl = (
        f"curl -s {server.http_base}/v2/annotations/searches"
        f" -H {shlex.quote('Authorization: Key ' + credentials.api_key)} -d {shlex.quote(body)}"
    )
    console.print()
    console.print(
        Panel.fit(
            f"REST   {server.http_base}\n"
            f"gRPC   {server.grpc_base} (plaintext)\n"
            f"Data   {server.data_dir}\n"
            f"Log    {server.log}",
            title="sightrank is running",
            title_align="left",
        )
    )
    console.print("Point a program that speaks to Clarifai at it:\n")
    console.print(server.exports(), markup=False, soft_wrap=True)
    console.print("\nOr try it at once:\n")
    console.print(curl, markup=False, soft_wrap=True)


def show_failure(console: Console, text: str) -> None:
    console.print()
    console.print("[bold red]The demo stopped.[/]", end=" ")
    console.print(text, markup=False, soft_wrap=True)
