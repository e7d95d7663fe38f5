"""Evaluations as tables for people at a terminal (docs/evaluation.md)."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sightrank.evaluation_report import SUMMARY, ConceptReport, Floats, Report

_WIDTH = 120  # of tables that go into a file
_MATRIX = 10  # so many concepts fit side by side
_PAIRS = 10
_MUCH = 0.1  # of what is one thing, taken for another
_SMALL_THRESHOLD = 0.01  # smaller ones would be 0.00
_SMALLEST = 0.005  # differences below that are shown as none


def open_console() -> Console:
    """Standard output, as wide as a page where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def show(console: Console, report: Report) -> None:
    """Prints one evaluation: summary, concepts, and what is taken for what."""
    _show_title(console, report)
    table = _table("")
    table.add_column("value", justify="right")
    for name, words in SUMMARY.items():
        table.add_row(words, _shown(report.measured[name]))
    console.print(table)
    console.print()
    console.print(_concepts(report))
    console.print()
    _show_confusion(console, report)


def compare(console: Console, report: Report, other: Report) -> None:
    """Prints two evaluations side by side; differences say how much better the first is."""
    _show_title(console, report)
    _show_title(console, other)
    if not report.dataset_id:
        console.print(
            "Each is judged by what it was trained with. Only --dataset judges both by the same inputs.",
            style="yellow",
        )
    alike = report.judged_like(other)
    if not alike:
        shared = len({concept.id for concept in report.concepts} & {concept.id for concept in other.concepts})
        console.print(
            f"Not judged alike: {_scope(report)}, {_scope(other)}; {shared} {'is' if shared == 1 else 'are'} shared."
            " A difference is shown where both have the same labels.",
            style="yellow",
            markup=False,
        )
    table = _table("")
    for name in (_short(report), _short(other), "difference"):
        table.add_column(name, justify="right")
    for name, words in SUMMARY.items():
        one, two = report.measured[name], other.measured[name]
        difference = _difference(one, two, alike=alike, plain=name.startswith("macro_std"))
        table.add_row(words, _shown(one), _shown(two), difference)
    console.print(table)
    console.print()
    console.print(_compared_concepts(report, other))


def _show_title(console: Console, report: Report) -> None:
    console.print(Text(f"Version {report.version_id} of {report.model_id}, {report.judged_by}", style="bold"))
    if report.note:
        console.print(report.note, markup=False, style="yellow")


def _concepts(report: Report) -> Table:
    """Weakest first: that is where labels help. Last the threshold that would serve each best."""
    table = _table("concept")
    for name in ("has it", "has not", "ROC AUC", "avg precision", "precision", "recall", "F1", "best F1", "at"):
        table.add_column(name, justify="right")
    for one in sorted(report.concepts, key=lambda concept: (concept.f1, concept.average_precision)):
        numbers = [_roc_auc(one), *(_of_positives(one, number) for number in _by_positives(one))]
        best = one.best_f1 if one.measurable else None
        cells = [_shown(number) for number in (*numbers, best)]
        table.add_row(Text(one.name), str(one.positives), str(one.negatives), *cells, _threshold(one))
    return table


def _by_positives(concept: ConceptReport) -> tuple[float, ...]:
    return concept.average_precision, concept.precision, concept.recall, concept.f1


def _roc_auc(concept: ConceptReport) -> float | None:
    return concept.roc_auc if concept.measurable else None


def _of_positives(concept: ConceptReport, number: float) -> float | None:
    return number if concept.positives else None


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"


def _threshold(concept: ConceptReport) -> str:
    """Nothing where none helps: it would read as a proposal."""
    if not concept.has_best_threshold:
        return "-"
    return f"{concept.best_threshold:.{2 if concept.best_threshold >= _SMALL_THRESHOLD else 3}f}"


def _compared_concepts(report: Report, other: Report) -> Table:
    """Of the concepts that both have, those that differ most first."""
    theirs = {concept.id: concept for concept in other.concepts}
    both = [(concept, theirs[concept.id]) for concept in report.concepts if concept.id in theirs]
    both.sort(key=lambda pair: -abs(pair[0].average_precision - pair[1].average_precision))
    table = _table("concept")
    for name in ("ROC AUC", "difference", "avg precision", "difference", "F1", "difference"):
        table.add_column(name, justify="right")
    for one, two in both:
        cells: list[str | Text] = []
        for mine, its in (
            (_roc_auc(one), _roc_auc(two)),
            (_of_positives(one, one.average_precision), _of_positives(two, two.average_precision)),
            (_of_positives(one, one.f1), _of_positives(two, two.f1)),
        ):
            cells += [_shown(mine), _difference(mine, its, alike=one.judged_like(two))]
        table.add_row(Text(one.name), *cells)
    return table


def _difference(one: float | None, two: float | None, *, alike: bool, plain: bool = False) -> Text:
    if one is None or two is None or not alike:
        return Text("-")
    value = one - two
    if abs(value) < _SMALLEST / 10:
        return Text("0.000", style="dim")
    style = "" if plain or abs(value) < _SMALLEST else "green" if value > 0 else "red"
    return Text(f"{value:+.3f}", style=style)


def _show_confusion(console: Console, report: Report) -> None:
    if len(report.concepts) < 2:
        return
    if len(report.concepts) <= _MATRIX:
        console.print("What is there (rows), and the share of it that is predicted to have each concept (columns):")
        console.print(_confusion(report))
        return
    pairs = confused(report)
    if pairs:
        console.print("Most often taken for something else:")
        table = _table("what is there")
        table.add_column("predicted as", overflow="fold")
        table.add_column("share", justify="right")
        for actual, predicted, share in pairs:
            table.add_row(Text(report.concepts[actual].name), Text(report.concepts[predicted].name), f"{share:.2f}")
        console.print(table)


def _confusion(report: Report) -> Table:
    table = _table("")
    for concept in report.concepts:
        table.add_column(Text(concept.name), justify="right", overflow="fold")
    wrong = _wrong(report)
    for row, concept in enumerate(report.concepts):
        cells = [
            Text(f"{share:.2f}", style="bold" if row == column else "red" if wrong[row, column] >= _MUCH else "dim")
            for column, share in enumerate(report.confusion[row])
        ]
        table.add_row(Text(concept.name), *cells)
    return table


def confused(report: Report) -> list[tuple[int, int, float]]:
    """Concepts that are taken for others, worst first: actual, predicted, and the share that cannot be right."""
    wrong = _wrong(report)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [(int(place // len(wrong)), int(place % len(wrong))) for place in order]
    return [(row, column, float(wrong[row, column])) for row, column in pairs if wrong[row, column] > 0]


def _wrong(report: Report) -> Floats:
    """[actual, predicted]: the share beyond that of the areas which are labelled with both."""
    counts = np.maximum(np.diagonal(report.cooccurrence), 1)[:, None]
    wrong = report.confusion - report.cooccurrence / counts
    np.fill_diagonal(wrong, 0)
    return wrong


def _scope(report: Report) -> str:
    inputs, concepts = report.input_count, len(report.concepts)
    return (
        f"{_short(report)} by {inputs} input{'s' if inputs != 1 else ''}"
        f" and {concepts} concept{'s' if concepts != 1 else ''}"
    )


def _short(report: Report) -> str:
    return report.version_id[:8]


def _table(first: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold")
    return table
