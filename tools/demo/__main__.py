"""The program behind `make demo`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from sightrank.contact_sheet import Sheet, Tile, save
from sightrank.lettering import showable
from sightrank.settings import default_data_dir
from tools.demo import DemoError, report, runner
from tools.demo.client import GrpcClient, RestClient
from tools.demo.photos import PhotoSet, choose
from tools.demo.searches import DemoSearch, reason, seven_searches
from tools.demo.server import HOST, Server, bypass_proxies, read_credentials, sightrank_command

OUTPUT = Path("demo-output")
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    console = report.make_console()
    for ending in (signal.SIGINT, signal.SIGTERM):  # a program started in the background ignores SIGINT otherwise
        signal.signal(ending, _interrupt)
    try:
        photos = choose(images=options.images, data=options.data, packages=options.packages)
        return demonstrate(console, photos, output=options.output, stop=options.exit)
    except DemoError as error:
        report.show_failure(console, str(error))
        return 1
    except KeyboardInterrupt:
        console.print("\nInterrupted; the server is stopped.")
        return INTERRUPTED


def demonstrate(
    console: Console, photos: PhotoSet, *, output: Path, stop: bool, command: list[str] | None = None
) -> int:
    """Runs the whole demo; returns the program's exit status."""
    bypass_proxies()
    server = Server(
        command or sightrank_command(),
        data_dir=_data_dir(photos),
        log=output.absolute() / "server.log",
        fetch_allow=f"{HOST}/32",
    )
    try:
        with console.status("Starting the server (the first start makes its database)"):
            server.start()
        credentials = read_credentials(server.data_dir / "credentials.env")
        client = GrpcClient(server.grpc_base, credentials)
        try:
            console.print(f"{len(photos.photos)} photos: {photos.description}.")
            with report.progress_bar(console, len(photos.photos)) as progress:
                indexed = runner.index(client, server, photos.photos, progress)
            report.show_indexed(console, indexed)
            runner.label(client, photos.labels)
            rest = RestClient(server.http_base, credentials)
            faults = search_all(console, photos, client, rest, output=output.absolute())
        finally:
            client.close()
        if not stop:
            report.show_addresses(console, server, credentials, photos)
        if faults:
            console.print(f"\n[bold red]{faults} of the seven searches did not answer as they should.[/]")
        if stop:
            return 1 if faults else 0
        console.print("\n[dim]The server keeps running; Ctrl-C stops it.[/]")
        return _stay(console, server) or (1 if faults else 0)
    finally:
        server.stop()


def search_all(console: Console, photos: PhotoSet, client: GrpcClient, rest: RestClient, *, output: Path) -> int:
    """Runs the seven searches, prints and draws each; returns how many have faults."""
    known = {photo.id: photo for photo in photos.photos}
    faults = 0
    files = []
    with runner.serving(photos.by_url) as url:
        for number, search in enumerate(seven_searches(photos, url), start=1):
            answer = runner.run_search(client, rest, search, photos=len(photos.photos))
            report.show_answer(console, number, answer, known)
            file = output / f"{search.file}.png"
            save(_sheet(number, search, answer, photos), file)
            files.append(file)
            faults += bool(answer.faults)
    report.show_sheets(console, output, files)
    return faults


def _sheet(number: int, search: DemoSearch, answer: runner.Answer, photos: PhotoSet) -> Sheet:
    known = {photo.id: photo for photo in photos.photos}
    tiles = []
    for hit in answer.hits:
        photo = known.get(hit.input_id)
        tiles.append(
            Tile(
                picture=photo.picture() if photo else None,
                title=photo.title if photo and showable(photo.title) else hit.input_id,
                score=hit.score,
                why=reason(search, hit, answer.parts),
                marked=hit.input_id in search.labelled
                or (search.photo is not None and hit.input_id == search.photo.id),
            )
        )
    return Sheet(
        heading=f"Search {number} of 7",
        title=search.title,
        words=search.words,
        plain_words=search.plain_words,
        note=search.note,
        footer=f"sightrank - {len(photos.photos)} photos, {answer.took_ms:.0f} ms",
        picture=search.photo.picture() if search.photo else None,
        tiles=tiles,
    )


def _data_dir(photos: PhotoSet) -> Path:
    """A folder beside the usual one, per photo set, so that neither your data nor another set's gets mixed in."""
    asked = os.environ.get("SIGHTRANK_DATA_DIR")
    if asked:
        return Path(asked).absolute()
    usual = default_data_dir()
    return usual.with_name("-".join(filter(None, (usual.name, "demo", photos.name))))


def _stay(console: Console, server: Server) -> int:
    """Waits for Ctrl-C, or for the server to end."""
    try:
        server.wait()
    except KeyboardInterrupt:
        console.print("\nStopping the server.")
        return 0
    raise server.failure("The server ended by itself.")


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--images", type=Path, help="a folder of your own photographs")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder of the photo library")
    parser.add_argument(
        "--packages", type=Path, default=Path(".cache/photo-packages"), help="where packages were unpacked"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the contact sheets go")
    parser.add_argument("--exit", action="store_true", help="stop the server at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main())
