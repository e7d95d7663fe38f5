"""Kinds of vectors side by side: the floor, the first bundle, this one, and the teachers as a ceiling."""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from training import baselines, bundle, data, evidence, export, quality, tagger, teachers
from training.probe import STRENGTHS, probed
from training.report import Report
from training.retrieval import precision_at

NEIGHBOURS = 9
"""The sets of objects and places have ten photos or so of a class: with ten neighbours one would always be wrong."""
FIRST = Path(__file__).parent / "first_bundle.json"
BUILT_IN = Path(__file__).parent.parent / "src" / "sightrank" / "general"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Figures:
    """What is measured of one kind of vector."""

    precision: dict[str, float]
    """Share of right ones among the nearest neighbours, by evaluation set."""
    average_precision: float
    roc_auc: float
    """Both of linear probes, means over the concepts that the evaluation sets measure."""


def measure(by_source: Sequence[Floats], labels: Sequence[Sequence[str]], marks: evidence.Marks) -> Figures:
    """Retrieval within each set, and probes over all sets together."""
    precision = {
        source: precision_at(vectors, coarse(each), NEIGHBOURS)
        for source, vectors, each in zip(data.EVAL_SOURCES, by_source, labels, strict=True)
    }
    together = np.concatenate(list(by_source))
    found = [
        quality.means(quality.Judged(probed(together, marks, strength), marks).measures(quality.LEAST_POSITIVES))
        for strength in STRENGTHS
    ]
    best = max(found)
    return Figures(precision=precision, average_precision=best[0], roc_auc=best[1])


def coarse(labels: Sequence[str]) -> npt.NDArray[np.str_]:
    """The labels that retrieval compares; groceries by kind, not by brand."""
    return np.array([label.split("|")[0] for label in labels])


def labels_of(path: Path) -> list[str]:
    """The raw labels of a zip."""
    with zipfile.ZipFile(path) as archive:
        return [label for _, label in data.rows(archive)]


def truths(photo_dir: Path, vocabulary: evidence.Vocabulary) -> evidence.Marks:
    """What the labels of all evaluation sets say, [photos, concepts of the vocabulary]."""
    label_map = json.loads((Path(__file__).parent / "label_map.json").read_text(encoding="utf-8"))
    return np.concatenate(
        [
            evidence.from_labels(vocabulary, label_map, source, labels_of(photo_dir / f"eval-{source}.zip"))
            for source in data.EVAL_SOURCES
        ]
    )


def teacher_vectors(teacher_dir: Path, network: str, pixels: npt.NDArray[np.uint8]) -> Floats:
    """A teacher's outputs, centred over the set."""
    teacher = teachers.open_teacher(teacher_dir, network)
    values = np.stack([teacher.values(picture) for picture in pixels])
    return values - values.mean(axis=0)


def floor_and_ceiling(photo_dir: Path, path: Path, ceiling: bool) -> dict[str, Floats]:
    """Vectors of one set that no bundle made."""
    found = {
        "raw pixels, 16 px": baselines.raw_pixels(data.load_eval(path, 16)[0]),
        "colour + HOG": baselines.colour_and_gradients(data.load_eval(path, baselines.HOG_SIDE)[0]),
    }
    if ceiling:
        large = data.load_eval(path, teachers.TEACHER_SIDE)[0]
        found["MobileNet v1 embedding"] = teacher_vectors(photo_dir / "teachers", "v1", large)
        found["MobileNet v2 logits"] = teacher_vectors(photo_dir / "teachers", "v2", large)
    return found


def bundle_vectors(photo_dir: Path, session: onnxruntime.InferenceSession, side: int) -> list[Floats]:
    """A bundle's vectors of each set."""
    return [
        bundle.vectors_of(session, data.load_eval(photo_dir / f"eval-{source}.zip", side)[0])
        for source in data.EVAL_SOURCES
    ]


def judge(
    fitted: tagger.Tagger, by_source: Sequence[Floats], marks: evidence.Marks, vocabulary: evidence.Vocabulary
) -> quality.Judged:
    """What a tagger says of all evaluation sets, and the truth; the columns are the tagger's."""
    columns = [vocabulary.ids.index(str(each)) for each in fitted.ids]
    return quality.Judged(fitted.probabilities(np.concatenate(list(by_source))), marks[:, columns])


def compare(report: Report, photo_dir: Path, folder: Path, own: Sequence[Floats], ceiling: bool) -> None:
    """The table of all kinds; ``own`` are the bundle's vectors of each set."""
    vocabulary = evidence.Vocabulary.read(folder / "vocabulary.json")
    marks = truths(photo_dir, vocabulary)
    paths = [photo_dir / f"eval-{source}.zip" for source in data.EVAL_SOURCES]
    labels = [labels_of(path) for path in paths]
    kinds: dict[str, list[Floats]] = {}
    for path in paths:
        for name, vectors in floor_and_ceiling(photo_dir, path, ceiling).items():
            kinds.setdefault(name, []).append(vectors)
    figures = {name: measure(vectors, labels, marks) for name, vectors in kinds.items()}
    first = json.loads(FIRST.read_text(encoding="utf-8"))
    rows = list(figures.items())
    rows.insert(2, (f"general {first['version']}, the first", Figures(**first["figures"])))
    rows.insert(3, ("**general**", measure(own, labels, marks)))
    report.say(
        f"Precision at {NEIGHBOURS}, every photo a query among the other photos of its set. The last two columns:\n"
        "mean average precision and mean ROC AUC of the concepts when linear probes read them off the vectors, fitted\n"
        "and tested on the evaluation sets in five parts, the same way for every kind of vector.\n"
    )
    head = ["vector", *data.EVAL_SOURCES, "probes: precision", "probes: ROC AUC"]
    report.table(head, [[name, *cells(each)] for name, each in rows])


def cells(figures: Figures) -> list[str]:
    precision = [f"{figures.precision[source]:.3f}" for source in data.EVAL_SOURCES]
    return [*precision, f"{figures.average_precision:.3f}", f"{figures.roc_auc:.3f}"]


def main() -> None:
    """Measure a bundle once for the row that later cards show; the first bundle is in this repository's history."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="the first bundle")
    chosen = parser.parse_args()
    manifest = json.loads((chosen.folder / "manifest.json").read_text())
    session = export.session(chosen.folder / "embedder.onnx")
    own = bundle_vectors(chosen.data, session, manifest["preprocessing"]["size"])
    vocabulary = evidence.Vocabulary.read(BUILT_IN / "vocabulary.json")
    marks = truths(chosen.data, vocabulary)
    labels = [labels_of(chosen.data / f"eval-{source}.zip") for source in data.EVAL_SOURCES]
    fitted = tagger.Tagger.read(chosen.folder / "tagger.npz")
    average_precision, roc_auc = quality.means(judge(fitted, own, marks, vocabulary).measures(quality.LEAST_POSITIVES))
    content = {
        "version": manifest["version"],
        "figures": asdict(measure(own, labels, marks)),
        "tagger": {"average_precision": average_precision, "roc_auc": roc_auc},
    }
    FIRST.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
