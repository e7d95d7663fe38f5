"""The command line. Options override ``SIGHTRANK_*`` variables, these the defaults (docs/settings.md)."""

from __future__ import annotations

import os

# Scans and matrix products here are short and many: one thread each beats a pool that spins on the cores that decoding
# and inference need. The libraries read these once, when they are first imported.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NoReturn

import structlog
import typer
from pydantic import ValidationError

from sightrank.models_command import models
from sightrank.settings import Settings, wrong_settings

cli = typer.Typer(
    name="sightrank",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the database, images and credentials.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"sightrank {version('sightrank')}")
        raise typer.Exit


@cli.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A self-hosted visual search server that speaks the Clarifai v2 API."""


@cli.command()
def serve(
    data_dir: DataDir = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on; 0.0.0.0 opens it to the network.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Plaintext gRPC.")] = None,
    http_port: Annotated[int | None, typer.Option(help="REST, and gRPC without TLS.")] = None,
    workers: Annotated[int | None, typer.Option(help="Ingest workers in this process.")] = None,
    tls_port: Annotated[int | None, typer.Option(help="REST and gRPC over TLS.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain (PEM) for the TLS port.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key (PEM) for the TLS port.")] = None,
) -> None:
    """Run the API and ingest until stopped by Ctrl-C or SIGTERM."""
    settings = _settings(
        data_dir=data_dir,
        host=host,
        grpc_port=grpc_port,
        http_port=http_port,
        workers=workers,
        tls_port=tls_port,
        tls_cert=tls_cert,
        tls_key=tls_key,
    )
    _run(_serve(settings), settings)


@cli.command()
def worker(
    data_dir: DataDir = None,
    workers: Annotated[int | None, typer.Option(help="Ingest workers in this process.")] = None,
) -> None:
    """Ingest only, on the database of SIGHTRANK_DATABASE_URL that servers elsewhere share."""
    settings = _settings(data_dir=data_dir, workers=workers)
    if not settings.database_url:
        _stop("`sightrank worker` needs SIGHTRANK_DATABASE_URL; the embedded database serves one process alone.")
    _run(_work(settings), settings)


@cli.command()
def env(data_dir: DataDir = None) -> None:
    """Print the variables that Clarifai's clients read, for `eval "$(sightrank env)"`."""
    from sightrank.api.bootstrap import CREDENTIALS_FILE, BootstrapError, env_lines, read_credentials
    from sightrank.client_env import client_addresses

    settings = _settings(data_dir=data_dir)
    try:
        credentials = read_credentials(settings.data_dir / CREDENTIALS_FILE)
    except BootstrapError as error:
        _stop(str(error))
    if credentials is None:
        _stop(f"There are no credentials in {settings.data_dir}. Start `sightrank serve` with this --data-dir first.")
    api_base, grpc_base = client_addresses(settings)
    for line in env_lines(credentials, api_base=api_base, grpc_base=grpc_base):
        typer.echo(line)


@cli.command()
def search(
    text: Annotated[str, typer.Argument(metavar="[TEXT]", help="What to look for, in words.")] = "",
    concept: Annotated[list[str] | None, typer.Option(help="A concept by its name; again for several.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="A concept that shall not be there.")] = None,
    image: Annotated[str, typer.Option(metavar="FILE|URL", help="An image that hits shall look like.")] = "",
    app: Annotated[str, typer.Option(help="Id of the app; default: that of the credentials.")] = "",
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many hits.")] = 20,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet of the hits, a .jpg or .png.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Search a running server by words, concepts or an image, and show the hits."""
    from sightrank.api.bootstrap import BootstrapError
    from sightrank.api_client import ClientError
    from sightrank.search_command import Query, find_access, run

    # A folder that is named is meant; without one, what `sightrank env` put into this shell comes first.
    environment = os.environ if data_dir is None else {}
    query = Query(text=text.strip(), concepts=tuple(concept or ()), without=tuple(without or ()), image=image)
    try:
        run(find_access(_settings(data_dir=data_dir), app, environment), query, count=count, sheet=sheet)
    except (ClientError, BootstrapError) as error:
        _stop(str(error))


@models.command()
def evaluate(
    model_id: Annotated[str, typer.Argument(metavar="MODEL_ID", help="Id of a model of the app.")],
    version_id: Annotated[str, typer.Option("--version", help="One of its versions; default: the latest.")] = "",
    against: Annotated[str, typer.Option(metavar="VERSION", help="Another version to compare it with.")] = "",
    dataset: Annotated[str, typer.Option(metavar="ID", help="Judge by the labels of this dataset's inputs.")] = "",
    plots: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write curves and matrix as pictures.")] = None,
    kind: Annotated[str, typer.Option("--format", help="Of the pictures: png or svg.")] = "png",
    app: Annotated[str, typer.Option(help="Id of the app; default: that of the credentials.")] = "",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for the server.")] = 600.0,
    data_dir: DataDir = None,
) -> None:
    """Let a running server measure how good a trained model is, and show it."""
    from sightrank.api.bootstrap import BootstrapError
    from sightrank.api_client import ClientError
    from sightrank.evaluation_command import Wanted, run
    from sightrank.search_command import find_access

    environment = os.environ if data_dir is None else {}
    wanted = Wanted(
        model_id=model_id, version_id=version_id, against=against, dataset_id=dataset, plots=plots, kind=kind
    )
    try:
        run(find_access(_settings(data_dir=data_dir), app, environment), wanted, timeout_s=timeout)
    except (ClientError, BootstrapError) as error:
        _stop(str(error))


@cli.command()
def suggest(
    concept: Annotated[str, typer.Option(help="The concept to teach, by its id or name.")],
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many suggestions.")] = 20,
    app: Annotated[str, typer.Option(help="Id of the app; default: that of the credentials.")] = "",
    data_dir: DataDir = None,
) -> None:
    """Ask a running server which images to label next with a concept."""
    from sightrank.api.bootstrap import BootstrapError
    from sightrank.api_client import ClientError
    from sightrank.search_command import find_access
    from sightrank.suggest_command import run

    environment = os.environ if data_dir is None else {}
    try:
        run(find_access(_settings(data_dir=data_dir), app, environment), concept, limit=limit)
    except (ClientError, BootstrapError) as error:
        _stop(str(error))


@cli.command()
def certs(
    directory: Annotated[Path, typer.Argument(help="Folder for ca.pem, server.pem and server.key.")],
    host: Annotated[list[str] | None, typer.Option("--host", help="Name or address the server is reached by.")] = None,
) -> None:
    """Make a certificate authority and a server certificate for the TLS port."""
    from sightrank.wire.certificates import make_certificates

    try:
        made = make_certificates(directory, host or ["localhost", "127.0.0.1"])
    except OSError as error:
        _stop(f"Cannot write certificates into {directory}: {error.strerror or error}. Choose another folder.")
    for path in made:
        typer.echo(str(path))


@cli.command()
def doctor(data_dir: DataDir = None) -> None:
    """Check database, migrations, indexes, model and disk; exits with 1 when something is wrong."""
    from sightrank.doctor import examine

    settings = _settings(data_dir=data_dir)
    findings = asyncio.run(examine(settings))
    for finding in findings:
        typer.echo(f"{'ok  ' if finding.well else 'BAD '} {finding.what}: {finding.detail}")
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


db = typer.Typer(help="The database.", no_args_is_help=True)
cli.add_typer(db, name="db")
cli.add_typer(models, name="models")


@db.command()
def upgrade(data_dir: DataDir = None) -> None:
    """Apply pending migrations; `serve` does this by itself."""
    settings = _settings(data_dir=data_dir)

    async def run() -> None:
        from sightrank.store.opening import open_store

        async with open_store(settings):
            typer.echo("The database is up to date.")

    _run(run(), settings)


async def _serve(settings: Settings) -> None:
    from sightrank.app import serve as running
    from sightrank.client_env import announce

    stop = _told_to_stop()
    async with running(settings) as server:
        announce(settings, server.wire.ports, server.first_start)
        await stop.wait()


async def _work(settings: Settings) -> None:
    from sightrank.core import open_core
    from sightrank.store.opening import open_store
    from sightrank.working import working

    stop = _told_to_stop()
    async with (
        open_store(settings) as url,
        open_core(settings, url) as core,
        working(core, settings.workers, asyncio.Event()),
    ):
        typer.echo(f"ready: {settings.workers} ingest worker(s)")
        await stop.wait()


def _told_to_stop() -> asyncio.Event:
    """Set by SIGINT or SIGTERM. To be asked for before anything starts: a start under way is finished, then all of it
    ends in good order. A second signal ends the process at once.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told(number: int) -> None:
        stop.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told, number)
    return stop


def _run(work: Awaitable[None], settings: Settings) -> None:
    """Runs until done; what an operator can mend is told in one line, anything else with its traceback."""
    from sightrank.api.bootstrap import BootstrapError
    from sightrank.store.embedded import DataDirectoryError
    from sightrank.store.migrate import MigrationError
    from sightrank.vision.bundle import BundleError
    from sightrank.wire.server import PortTakenError
    from sightrank.wire.tls import CertificateError

    _configure_logging(settings)
    try:
        asyncio.run(_awaited(work))
    except (BootstrapError, DataDirectoryError, MigrationError, BundleError, PortTakenError, CertificateError) as error:
        _stop(str(error))


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _settings(**options: Any) -> Settings:
    from sightrank.ingest.address import AddressPolicy

    try:
        settings = Settings(**{name: value for name, value in options.items() if value is not None})
        AddressPolicy(settings.fetch_allow_list())
    except ValidationError as error:
        _stop(wrong_settings(error))
    except ValueError as error:
        _stop(f"Wrong setting: {error}")
    return settings


def _stop(text: str) -> NoReturn:
    typer.echo(f"sightrank: {text}", err=True)
    raise typer.Exit(2)


def _configure_logging(settings: Settings) -> None:
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    if sys.stderr.isatty():
        processors.append(structlog.dev.ConsoleRenderer())
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.LogfmtRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def main() -> None:
    """The entry point of the program ``sightrank``."""
    cli()
