"""``sightrank models``: encoders from the Hub, added, listed and removed; what the built-in model is good at
(docs/models.md, docs/quality.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError

from sightrank.settings import Settings, available_cores, wrong_settings

models = typer.Typer(help="Models.", no_args_is_help=True)

DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder of the database, images and credentials.")]


@models.command()
def add(
    source: Annotated[str, typer.Argument(metavar="REPO_OR_DIR", help="owner/name on the Hub, or a folder here.")],
    model_id: Annotated[str, typer.Option("--id", help="Id of the model on this server.")],
    precision: Annotated[str | None, typer.Option(help="fp32, fp16, quantized, int8 …; default: the fullest.")] = None,
    universal: Annotated[bool, typer.Option("--universal", help="Let it serve the workflow Universal.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Download, check and install a dual encoder; a running server takes it up when it starts again."""
    from sightrank.vision.bundle import BundleError
    from sightrank.vision.model_folders import add_model

    settings = _settings(data_dir)
    try:
        model = add_model(
            settings.models_path(),
            source,
            model_id,
            precision=precision,
            universal=universal,
            reserved=_built_in_ids(),
            threads=settings.infer_threads or available_cores(),
        )
    except BundleError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        _stop("Interrupted. The same command goes on where it stopped.")
    role = "; it serves the workflow Universal" if model.universal else ""
    typer.echo(f"{model.id}: {model.dims} dimensions, {model.precision}, version {model.version}{role}")


@models.command("list")
def list_(data_dir: DataDir = None) -> None:
    """Show the models that were added, and check their files; exits with 1 when one is damaged."""
    from sightrank.vision.model_folders import installed_models

    found = installed_models(_settings(data_dir).models_path())
    for model in found:
        if model.problem:
            typer.echo(f"{model.id}\tBAD\t{model.problem}")
            continue
        licence = model.licence or "licence not stated"
        role = "\tUniversal" if model.universal else ""
        typer.echo(f"{model.id}\t{model.dims}\t{model.precision}\t{licence}\t{model.repo}{role}")
    if any(model.problem for model in found):
        raise typer.Exit(1)


@models.command()
def remove(
    model_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the model on this server.")],
    data_dir: DataDir = None,
) -> None:
    """Delete a model and what was left of its downloads; vectors it made stay in the database."""
    from sightrank.vision.bundle import BundleError
    from sightrank.vision.model_folders import remove_model

    try:
        heir = remove_model(_settings(data_dir).models_path(), model_id)
    except BundleError as error:
        _stop(str(error))
    typer.echo(f"{model_id} is removed" + (f"; {heir} serves the workflow Universal now" if heir else ""))


@models.command()
def concepts(
    weak: Annotated[bool, typer.Option("--weak", help="Only those that are weak somewhere, or unmeasured.")] = False,
) -> None:
    """Show what the built-in model can name, and how well each concept was measured."""
    from sightrank.quality_table import show
    from sightrank.vision.bundle import BundleError

    try:
        show(weak_only=weak)
    except BundleError as error:
        _stop(str(error))


def _built_in_ids() -> frozenset[str]:
    """Ids that clients know models and workflows of the server itself by."""
    from sightrank.api.catalogue import DETECTION_WORKFLOW, EMPTY_WORKFLOW, GENERAL_ALIAS, missing_workflows
    from sightrank.installed import faces_card, general_cards, general_workflow, things_card
    from sightrank.vision.bundle import built_in_bundle
    from sightrank.vision.vocabulary import Vocabulary

    nothing = Vocabulary.empty()
    general = general_workflow(*general_cards("", 0, nothing))
    cards = (general, *missing_workflows(()))
    models = (model.id for model in (*general.models, things_card("", nothing), faces_card("", nothing)))
    workflows = (DETECTION_WORKFLOW, EMPTY_WORKFLOW, *(card.id for card in cards))
    return frozenset({built_in_bundle().name, GENERAL_ALIAS, *models, *workflows})


def _settings(data_dir: Path | None) -> Settings:
    options: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
    try:
        return Settings(**options)
    except ValidationError as error:
        _stop(wrong_settings(error))


def _stop(text: str) -> NoReturn:
    typer.echo(f"sightrank: {text}", err=True)
    raise typer.Exit(1)
