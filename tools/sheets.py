"""`make sheets`: contact sheets of searches over photographs that trained nothing, and how many of the hits are right.

Starts a server of its own, indexes libraries of photographs, searches each through `sightrank search`, and compares the
hits with the labels. Three libraries: ten free photographs, and with `--data` full photographs and the evaluation sets.
Sheets of these two show other people's photographs and stay out of the repository. `--write` renews what the page
docs/quality.md shows: the sheets of the free ones, and the tables of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from sightrank.api_client import Access, ClientError, Hit
from sightrank.search_command import Query, find
from sightrank.settings import default_data_dir
from tools.demo import DemoError, report, runner
from tools.demo.client import GrpcClient
from tools.demo.server import Credentials, Server, bypass_proxies, read_credentials, sightrank_command
from tools.labelled import Library, LibraryError, Shown, free_photographs, libraries

PAGE = Path(__file__).parent.parent / "docs" / "quality.md"
HITS = 20
LISTED = 10
#: Fewer labelled photos than this and a precision says nothing.
LEAST_POSITIVES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The hits of one word in one library, and what their photos show."""

    word: str
    positives: int
    hits: tuple[tuple[Hit, Shown], ...]

    def right(self, first: int) -> tuple[int, int]:
        """How many of the first hits show the word, and of how many of them the labels say."""
        said = [shown.shows(self.word) for _, shown in self.hits[:first]]
        return sum(bool(one) for one in said), sum(one is not None for one in said)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make sheets", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder of the photographs")
    parser.add_argument("--output", type=Path, default=Path("demo-output") / "sheets", help="where the sheets go")
    parser.add_argument(
        "--packages", type=Path, default=Path(".cache/photo-packages"), help="where packages were unpacked"
    )
    parser.add_argument("--write", action="store_true", help="renew the sheets and tables of docs/quality.md")
    options = parser.parse_args(arguments)
    console = report.make_console()
    try:
        free = free_photographs(options.packages)
        labelled = libraries(options.data) if (options.data / "photos.zip").exists() else ()
        _, *judged = make(console, (free, *labelled), options.output.absolute())
    except (DemoError, LibraryError, ClientError) as error:
        report.show_failure(console, str(error))
        return 1
    text = "\n\n".join(section(library, found) for library, found in judged)
    if options.write:
        for word in free.words:
            shutil.copyfile(sheet_path(options.output, free, word), sheet_path(PAGE.parent / "sheets", free, word))
        if judged:
            write(PAGE, text)
    console.print(text, markup=False, soft_wrap=True)
    return 0


def sheet_path(folder: Path, library: Library, word: str) -> Path:
    return folder / f"{library.id}-{word}.jpg"


def make(console: Console, chosen: Sequence[Library], output: Path) -> list[tuple[Library, tuple[Judged, ...]]]:
    """Indexes what is not there yet, searches, draws."""
    bypass_proxies()
    usual = default_data_dir()
    server = Server(sightrank_command(), data_dir=usual.with_name(f"{usual.name}-sheets"), log=output / "server.log")
    try:
        with console.status("Starting the server"):
            server.start()
        credentials = read_credentials(server.data_dir / "credentials.env")
        found = []
        for library in chosen:
            mine = replace(credentials, app_id=library.id)
            index(console, server, mine, library)
            access = Access(base=server.http_base, key=mine.pat, user_id=mine.user_id, app_id=mine.app_id)
            judged = tuple(judge(access, library, word, sheet_path(output, library, word)) for word in library.words)
            found.append((library, judged))
            console.print(f"Contact sheets: {output}/{library.id}-*.jpg", markup=False, soft_wrap=True)
        return found
    finally:
        server.stop()


def index(console: Console, server: Server, credentials: Credentials, library: Library) -> None:
    """Every photo of the library is in its app afterwards. Raises DemoError when one is not."""
    client = GrpcClient(server.grpc_base, credentials)
    try:
        client.ensure_app()
        with report.progress_bar(console, len(library.photos)) as progress:
            done = runner.index(client, server, library.photos, progress)
        report.show_indexed(console, done)
        if done.failed:
            raise DemoError(
                f"{len(done.failed)} photos of {library.id} could not be indexed; their hits would be missing."
            )
    finally:
        client.close()


def judge(access: Access, library: Library, word: str, sheet: Path) -> Judged:
    """Searches for a word and compares the hits with the labels."""
    found = asyncio.run(find(access, Query(text=word), count=HITS, sheet=sheet))
    hits = tuple((hit, library.shown[hit.input_id]) for hit in found.hits)
    return Judged(word=word, positives=library.positives(word), hits=hits)


def section(library: Library, judged: Sequence[Judged]) -> str:
    """A library's searches in Markdown: how many of the first hits are right, then the hits themselves."""
    lines = [f"{library.title}:", "", "| search | photos that show it | of the first 10 | of the first 20 |"]
    lines.append("| --- | --- | --- | --- |")
    for one in judged:
        lines.append(f"| {one.word} | {one.positives or 'not labelled'} | {share(one, 10)} | {share(one, 20)} |")
    told = [one for one in judged if one.positives >= LEAST_POSITIVES]
    lines += ["", "| rank | " + " | ".join(one.word for one in told) + " |", "| --- |" + " --- |" * len(told)]
    for rank in range(LISTED):
        lines.append(f"| {rank + 1} | " + " | ".join(cell(one, rank) for one in told) + " |")
    return "\n".join(lines)


def share(judged: Judged, first: int) -> str:
    """``9 right``, with how many hits the labels are silent about."""
    right, said = judged.right(first)
    silent = min(first, len(judged.hits)) - said
    if not said:
        return "unknown"
    return f"{right} right" + (f", {silent} unknown" if silent else "")


def cell(judged: Judged, rank: int) -> str:
    """A hit's score and label, in bold where the label has the word."""
    if rank >= len(judged.hits):
        return ""
    hit, shown = judged.hits[rank]
    text = f"{hit.score:.2f} {shown.label}"
    mark = {True: f"**{text}**", False: text, None: f"{text} (?)"}
    return mark[shown.shows(judged.word)]


def write(page: Path, text: str) -> None:
    """Puts the tables between the page's marks."""
    before = page.read_text(encoding="utf-8")
    pattern = re.compile(r"<!-- searches -->\n.*?<!-- /searches -->", re.DOTALL)
    assert pattern.search(before), f"{page} has no place for the searches"
    page.write_text(pattern.sub(lambda _: f"<!-- searches -->\n{text}\n<!-- /searches -->", before), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
