"""Measure the bundle on photos that trained nothing: retrieval, concepts, calibration, speed."""

from __future__ import annotations

import argparse
import itertools
import json
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
from sklearn.metrics import average_precision_score, roc_auc_score

from training import baselines, bundle, card, data, evidence, export, tagger, teachers
from training.report import Report
from training.retrieval import precision_at

NEIGHBOURS = 9
SHOWN_ON_PHOTOS = ("people", "dog", "cat", "car", "bus", "train", "boat", "horse", "bird", "chair", "bed", "pizza",
                   "bicycle", "motorcycle", "airplane", "elephant", "sheep", "cow", "television", "vehicle", "animal",
                   "food", "furniture")  # fmt: skip

Floats = npt.NDArray[np.float32]


def teacher_vectors(teacher_dir: Path, network: str, pixels: npt.NDArray[np.uint8]) -> Floats:
    """A teacher's outputs, centred over the set."""
    teacher = teachers.open_teacher(teacher_dir, network)
    values = np.stack([teacher.values(picture) for picture in pixels])
    return values - values.mean(axis=0)


def coarse(labels: list[str]) -> npt.NDArray[np.str_]:
    """The labels that retrieval compares; groceries by kind, not by brand."""
    return np.array([label.split("|")[0] for label in labels])


def retrieval(report: Report, photo_dir: Path, session: onnxruntime.InferenceSession, side: int, ceiling: bool) -> None:
    """Precision of the nearest neighbours per evaluation set, for each kind of vector."""
    found: dict[str, list[str]] = {}
    for source in data.EVAL_SOURCES:
        path = photo_dir / f"eval-{source}.zip"
        vectors = {
            "raw pixels, 16 px": baselines.raw_pixels(data.load_eval(path, 16)[0]),
            "colour + HOG": baselines.colour_and_gradients(data.load_eval(path, baselines.HOG_SIDE)[0]),
            "**general**": bundle.vectors_of(session, data.load_eval(path, side)[0]),
        }
        if ceiling:
            large = data.load_eval(path, teachers.TEACHER_SIDE)[0]
            vectors["MobileNet v1 embedding"] = teacher_vectors(photo_dir / "teachers", "v1", large)
            vectors["MobileNet v2 logits"] = teacher_vectors(photo_dir / "teachers", "v2", large)
        labels = coarse(labels_of(path))
        for name, each in vectors.items():
            found.setdefault(name, []).append(f"{precision_at(each, labels, NEIGHBOURS):.3f}")
    report.say(f"Precision at {NEIGHBOURS}, every photo a query among the other photos of its set:\n")
    report.table(["vector", *data.EVAL_SOURCES], [[name, *row] for name, row in found.items()])


def labels_of(path: Path) -> list[str]:
    """The raw labels of a zip."""
    with zipfile.ZipFile(path) as archive:
        return [label for _, label in data.rows(archive)]


@dataclass(frozen=True)
class Judged:
    """Probabilities and truths of a set of photos, for the tagger's concepts."""

    probabilities: Floats
    marks: evidence.Marks


def judge_eval_sets(photo_dir: Path, session: onnxruntime.InferenceSession, side: int, fitted: tagger.Tagger,
                    vocabulary: evidence.Vocabulary) -> Judged:  # fmt: skip
    """All evaluation sets together, each truth from its label only."""
    label_map = json.loads((Path(__file__).parent / "label_map.json").read_text(encoding="utf-8"))
    columns = [vocabulary.ids.index(str(each)) for each in fitted.ids]
    probabilities, marks = [], []
    for source in data.EVAL_SOURCES:
        pixels, labels = data.load_eval(photo_dir / f"eval-{source}.zip", side)
        probabilities.append(fitted.probabilities(bundle.vectors_of(session, pixels)))
        marks.append(evidence.from_labels(vocabulary, label_map, source, labels)[:, columns])
    return Judged(np.concatenate(probabilities), np.concatenate(marks))


def judge_photos(photo_dir: Path, session: onnxruntime.InferenceSession, side: int, fitted: tagger.Tagger,
                 vocabulary: evidence.Vocabulary) -> Judged:  # fmt: skip
    """The COCO photos; a concept is present when a box of one of its classes is."""
    label_map = json.loads((Path(__file__).parent / "label_map.json").read_text(encoding="utf-8"))
    pixels, labels = data.load_eval(photo_dir / "photos.zip", side)
    marks = np.zeros((len(labels), len(fitted.ids)), dtype=np.int8)
    place = {str(each): column for column, each in enumerate(fitted.ids)}
    for row, label in enumerate(labels):
        for box in json.loads(label):
            for name in label_map["teachers"]["coco"].get(box[0], []):
                identity = vocabulary.ids[vocabulary.names.index(name)]
                if identity in place:
                    marks[row, place[identity]] = evidence.YES
    return Judged(fitted.probabilities(bundle.vectors_of(session, pixels)), marks)


def concept_rows(judged: Judged, names: list[str], fewest: int) -> list[list[str]]:
    """Name, positives, average precision, ROC AUC and precision at 5 of each concept that can be measured."""
    rows = []
    for column, name in enumerate(names):
        known = judged.marks[:, column] != evidence.UNKNOWN
        truth = judged.marks[known, column]
        if truth.sum() < fewest or truth.all():
            continue
        scores = judged.probabilities[known, column]
        top = truth[np.argsort(-scores)[:5]].mean()
        rows.append([name, str(int(truth.sum())), f"{average_precision_score(truth, scores):.2f}",
                     f"{roc_auc_score(truth, scores):.2f}", f"{top:.1f}"])  # fmt: skip
    return rows


def reliability(report: Report, judged: Judged, title: str) -> None:
    """How often a predicted probability comes true, over all concepts."""
    known = judged.marks != evidence.UNKNOWN
    p, truth = judged.probabilities[known], judged.marks[known]
    edges = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0001]
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (p >= low) & (p < high)
        if inside.any():
            rows.append([f"{low:.2f} to {min(high, 1):.2f}", str(int(inside.sum())), f"{p[inside].mean():.3f}",
                         f"{truth[inside].mean():.3f}"])  # fmt: skip
    report.say(f"Calibration, {title}:\n")
    report.table(["predicted", "cases", "mean prediction", "came true"], rows)


def speed(report: Report, path: Path, side: int) -> None:
    """Milliseconds per photo on one thread, the median of some runs."""
    session = export.session(path)
    rows = []
    for count in (1, 16):
        pixels = np.zeros((count, 3, side, side), dtype=np.float32)
        taken = []
        for _ in range(24):
            started = time.perf_counter()
            session.run(["embedding"], {"pixels": pixels})
            taken.append((time.perf_counter() - started) / count * 1000)
        rows.append([str(count), f"{np.median(taken):.1f}", f"{min(taken):.1f}"])
    report.table(["batch", "ms a photo, median", "best"], rows)


def evaluate(photo_dir: Path, folder: Path, ceiling: bool) -> Report:
    """All measurements of a bundle."""
    side = json.loads((folder / "manifest.json").read_text())["preprocessing"]["size"]
    session = export.session(folder / "embedder.onnx")
    fitted = tagger.Tagger.read(folder / "tagger.npz")
    vocabulary = evidence.Vocabulary.read(folder / "vocabulary.json")
    names = [vocabulary.names[vocabulary.ids.index(str(each))] for each in fitted.ids]
    report = Report()
    retrieval(report, photo_dir, session, side, ceiling)
    head = ["concept", "positives", "average precision", "ROC AUC", "precision at 5"]
    judged = judge_photos(photo_dir, session, side, fitted, vocabulary)
    rows = concept_rows(judged, names, 1)
    report.say("Concepts on full photographs (128 COCO photos, truth from boxes):\n")
    report.table(head, rows)
    held_out = judge_eval_sets(photo_dir, session, side, fitted, vocabulary)
    rows = concept_rows(held_out, names, 5)
    precisions = sorted((float(row[2]), row[0]) for row in rows)
    average, area = np.mean([p for p, _ in precisions]), np.mean([float(row[3]) for row in rows])
    report.say(f"Concepts on the evaluation sets: {len(rows)} measured, mean average precision {average:.2f}, ")
    report.say(f"mean ROC AUC {area:.2f}\n")
    report.table(head, rows)
    report.say("Weakest: " + ", ".join(f"{name} ({value:.2f})" for value, name in precisions[:25]) + "\n")
    reliability(report, held_out, "evaluation sets")
    boxed = [names.index(n) for n in SHOWN_ON_PHOTOS if n in names]
    reliability(report, Judged(judged.probabilities[:, boxed], judged.marks[:, boxed]), "COCO photos")
    speed(report, folder / "embedder.onnx", side)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--no-ceiling", action="store_true", help="leave out the teachers, which take a minute")
    parser.add_argument("--card", action="store_true", help="write the bundle's model card")
    chosen = parser.parse_args()
    report = evaluate(chosen.data, chosen.folder, not chosen.no_ceiling)
    if chosen.card:
        card.write(chosen.folder, report)


if __name__ == "__main__":
    main()
