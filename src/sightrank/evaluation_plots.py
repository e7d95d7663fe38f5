"""Evaluations as pictures: ROC and precision-recall curves, confusion matrix, calibration. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sightrank.evaluation_report import ConceptReport, Floats, Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("png", "svg")
_DPI = 150
_NAMED = 8  # curves that have a colour and a name of their own
_LONGEST = 24  # characters of a name
_CELLS = 25  # concepts of a confusion matrix that one can read
_INK, _FAINT, _GRID = "#1b2733", "#9aa7b4", "#e4e9ee"
#: Told apart by people who see no red or green, too (Okabe and Ito), and their yellow darkened.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#7f4fc9", "#6b6b6b")


class PlotsMissing(Exception):
    """matplotlib is not installed; the text says how to install it."""


def check_plots() -> None:
    """Raises PlotsMissing where nothing can be drawn."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise PlotsMissing("Plots need matplotlib: pip install 'sightrank[plots]'") from error


def draw(report: Report, folder: Path, kind: str, other: Report | None = None) -> list[Path]:
    """Writes the pictures into the folder, which is made; ``other`` is drawn beside where that is possible.

    Raises PlotsMissing and OSError.
    """
    check_plots()
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"roc": _roc(report, other), "precision-recall": _precision_recall(report, other)}
    if len(report.concepts) > 1:
        pictures["confusion"] = _confusion(report)
    pictures["calibration"] = _calibration(report, other)
    paths = []
    for name, figure in pictures.items():
        path = folder / f"{name}.{kind}"
        metadata = {"Date": None} if kind == "svg" else None
        figure.savefig(path, format=kind, dpi=_DPI, metadata=metadata)
        paths.append(path)
    return paths


def _roc(report: Report, other: Report | None) -> Figure:
    figure, axes = _square("ROC", report)
    axes.plot([0, 1], [0, 1], color=_FAINT, linewidth=1, linestyle=(0, (2, 3)))
    _curves(axes, report, other, lambda one: one.roc, lambda one: one.roc_auc, "AUC")
    axes.set_xlabel("false positive rate: of what has it not, the share predicted to have it")
    axes.set_ylabel("true positive rate: of what has it, the share found")
    _legend(figure)
    return figure


def _precision_recall(report: Report, other: Report | None) -> Figure:
    figure, axes = _square("Precision and recall", report)
    _curves(axes, report, other, lambda one: one.precision_recall, lambda one: one.average_precision, "AP")
    axes.set_xlabel("recall: of what has it, the share found")
    axes.set_ylabel("precision: of what is found, the share that has it")
    _legend(figure)
    return figure


def _confusion(report: Report) -> Figure:
    """Of many concepts those that are found least, which are the ones to look at."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    weakest = np.argsort(np.diagonal(report.confusion), kind="stable")[:_CELLS]
    places = np.sort(weakest)
    shares = report.confusion[np.ix_(places, places)]
    names = [_shortened(report.concepts[place].name) for place in places]
    side = max(5.0, 2.4 + 0.42 * len(names))
    figure = Figure(figsize=(side + 1.2, side + 0.8), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    colours = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#9ecae9", "#0a4a7d"])
    image = axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_xlabel("predicted", color=_INK)
    axes.set_ylabel("what is there", color=_INK)
    axes.tick_params(length=0, colors=_INK)
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=_GRID, linewidth=1)
    axes.tick_params(which="minor", length=0)
    for row, column in np.argwhere(shares >= 0.005):
        share = shares[row, column]
        ink = "white" if share > 0.55 else _INK
        axes.text(column, row, f"{share:.2f}".lstrip("0"), ha="center", va="center", color=ink, fontsize=8)
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, colors=_INK, labelsize=8)
    some = f", the {len(names)} found least" if len(names) < len(report.concepts) else ""
    _title(axes, f"What is predicted of what is there{some}", report)
    return figure


def _calibration(report: Report, other: Report | None) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 6.8), layout="constrained", facecolor="white")
    upper, lower = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
    upper.plot([0, 1], [0, 1], color=_FAINT, linewidth=1, linestyle=(0, (2, 3)), label="as sure as right")
    for one, colour, style in _versions(report, other):
        some = one.calibration[one.calibration[:, 2] > 0]
        label = f"version {one.version_id[:8]}" if other is not None else "predictions, by tenths"
        upper.plot(some[:, 0], some[:, 1], color=colour, linestyle=style, linewidth=2, marker="o", label=label)
    counts = report.calibration[:, 2]
    lower.bar((np.arange(len(counts)) + 0.5) / len(counts), counts, width=0.92 / len(counts), color=_COLOURS[0])
    for axes in (upper, lower):
        _style(axes)
    upper.set_ylim(-0.02, 1.02)
    upper.set_ylabel("share of them that is right")
    lower.set_xlim(-0.02, 1.02)
    lower.set_yscale("log")
    lower.set_ylim(bottom=0.7)
    lower.set_xlabel("predicted probability")
    lower.set_ylabel("predictions")
    _legend(figure)
    _title(upper, "Do probabilities mean what they say?", report)
    return figure


def _curves(
    axes: Axes,
    report: Report,
    other: Report | None,
    curve: Callable[[ConceptReport], Floats],
    score: Callable[[ConceptReport], float],
    unit: str,
) -> None:
    """One curve for each concept, the weakest named, and the average of all; beside ``other`` only averages are."""
    concepts = sorted((one for one in report.concepts if one.measurable), key=score)
    if not concepts:
        axes.text(0.5, 0.5, "No concept has both positives and negatives.", ha="center", va="center", color=_INK)
    for place, one in enumerate(concepts):
        x, y = curve(one)
        if place < _NAMED and other is None:
            label = f"{_shortened(one.name)}  {unit} {score(one):.3f}"
            axes.plot(x, y, color=_COLOURS[place], linewidth=1.4, alpha=0.9, label=label, zorder=4 - place / _NAMED)
        else:
            axes.plot(x, y, color=_FAINT, linewidth=0.7, alpha=0.5, zorder=2)
    for version, colour, style in _versions(report, other):
        some = [one for one in version.concepts if one.measurable]
        if not some or (len(some) == 1 and other is None):
            continue
        x, y = np.mean([curve(one) for one in some], axis=0)
        name = f"average of {len(some)}" if other is None else f"{version.version_id[:8]}, average of {len(some)}"
        label = f"{name}  {unit} {np.mean([score(one) for one in some]):.3f}"
        axes.plot(x, y, color=_INK if other is None else colour, linewidth=2.6, linestyle=style, label=label, zorder=5)


def _versions(report: Report, other: Report | None) -> list[tuple[Report, str, str]]:
    """With colour and style of the lines."""
    first = (report, _COLOURS[0], "-")
    return [first] if other is None else [first, (other, _COLOURS[1], "--")]


def _square(title: str, report: Report) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 6.8), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    _style(axes)
    axes.set_aspect("equal")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    _title(axes, title, report)
    return figure, axes


def _style(axes: Axes) -> None:
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(which="both", colors=_INK, length=0, labelsize=9)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)


def _legend(figure: Figure) -> None:
    """Beside the curves, which are everywhere."""
    figure.legend(loc="outside right upper", frameon=False, fontsize=9, labelcolor=_INK)


def _title(axes: Axes, title: str, report: Report) -> None:
    axes.set_title(title, loc="left", pad=36, fontsize=13, color=_INK, fontweight="bold")
    about = f"{_shortened(report.model_id)}, version {report.version_id[:8]}\n{report.judged_by}"
    text = axes.annotate(about, (0, 1), (0, 8), "axes fraction", "offset points", fontsize=9, color=_INK, va="bottom")
    text.set_in_layout(False)


def _shortened(name: str) -> str:
    """A name that fits a legend, in which matplotlib reads no formulas."""
    short = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
    return short.replace("$", r"\$")
