"""What the built-in model can name and how well, for people at a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.quality import Measure, Quality, Verdict
from sightrank.vision.vocabulary import Vocabulary

_WIDTH = 120  # of a table that goes into a file
_SETS = {"evaluation": "evaluation sets", "photographs": "photographs"}


def show(*, weak_only: bool) -> None:
    """Prints every concept, or those that are not good everywhere. Raises BundleError."""
    folder = built_in_bundle()
    bundle, quality = load_bundle(folder), Quality.load(folder)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("concept", "id", "quality"):
        table.add_column(name, no_wrap=True)
    for title in _SETS.values():
        table.add_column(title, justify="right", no_wrap=True)
    for term in Vocabulary.load(bundle.vocabulary):
        found = quality.of(term.id)
        if not weak_only or found.verdict is not Verdict.GOOD:
            table.add_row(term.name, term.id, found.verdict.value, *(_figures(found.sets.get(name)) for name in _SETS))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(table)
    measured = "" if quality.version == bundle.version else f", measured on version {quality.version}"
    console.print(
        f"{table.row_count} concepts of {bundle.id} {bundle.version}{measured}."
        " Figures: average precision, ROC AUC (photos that show it)."
    )


def _figures(measure: Measure | None) -> str:
    return f"{measure.average_precision:.2f} {measure.roc_auc:.2f} ({measure.positives})" if measure else "-"
